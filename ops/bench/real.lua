-- wrk's load for the rows of real requests: one key, and heads and bodies that differ each time.
--
--     wrk -s real.lua URL -- <kind> <credentials, or "-">
--
-- Kinds are those of ops/bench/real.py.

local JSON = "application/json"
local VALUE = string.rep("v", 64)
local number = 0
local headers, make

local function trace(fields)
  number = number + 1
  fields["traceparent"] = string.format("00-4bf92f3577b34da6a3ce%012x-00f067aa0ba902b7-01", number)
  return fields
end

local function proxied(fields)
  number = number + 1
  fields["X-Forwarded-For"] = "203.0.113." .. number % 256
  fields["X-Forwarded-Proto"] = "https"
  fields["X-Forwarded-Host"] = "kv.example"
  fields["X-Forwarded-Port"] = "443"
  fields["X-Real-IP"] = "203.0.113." .. number % 256
  return fields
end

local function haproxy(fields)
  number = number + 1
  fields["X-Forwarded-For"] = "203.0.113." .. number % 256
  fields["X-Unique-ID"] = string.format("7F000001:%04X_7F000001:3C8C_%08X", number % 65536, number)
  return fields
end

local function asked_id(fields)
  number = number + 1
  fields["X-Request-Id"] = "client-" .. number
  return fields
end

local function plain(fields)
  return fields
end

local function get(change, path)
  return function() return wrk.format("GET", path or "/kv/get/key:000001", change(headers)) end
end

local function post(change, path, body)
  return function() return wrk.format("POST", path, change(headers), body) end
end

local SET = '{"key":"key:000001","value":"' .. VALUE .. '"}'
local NAMED = '{"command":"%s","request_id":"1f0a","payload":{"key":"key:000001"%s}}'

local function set_of_any_length()
  local value = string.rep("v", math.random(1, 1000))
  return wrk.format("POST", "/kv/set", headers, '{"key":"key:000001","value":"' .. value .. '"}')
end

local kinds = {
  ["get"] = get(plain),
  ["get-trace"] = get(trace),
  ["get-proxy"] = get(proxied),
  ["get-haproxy"] = get(haproxy),
  ["get-id"] = get(asked_id),
  ["get-position"] = get(function(fields)
    fields["X-Synap-Min-Position"] = "0-00000000"
    return fields
  end),
  ["get-same"] = get(function(fields)
    fields["If-None-Match"] = "*"
    return fields
  end),
  ["set"] = post(plain, "/kv/set", SET),
  ["set-trace"] = post(trace, "/kv/set", SET),
  ["set-lengths"] = set_of_any_length,
  ["sdk-get"] = post(plain, "/api/v1/command", NAMED:format("kv.get", "")),
  ["sdk-set"] = post(plain, "/api/v1/command", NAMED:format("kv.set", ',"value":"' .. VALUE .. '"')),
  ["raw-put"] = function() return wrk.format("PUT", "/raw/key:000001", headers, VALUE) end,
  ["raw-get"] = get(plain, "/raw/key:000001"),
  ["delete"] = function() return wrk.format("DELETE", "/kv/del/key:none", headers) end,
  ["incr"] = post(plain, "/kv/incr", '{"key":"counter"}'),
  ["mget"] = post(plain, "/kv/mget", '{"keys":["key:000001","key:none","key:000001"]}'),
}

function init(args)
  make = kinds[args[1]]
  headers = {}
  if args[2] ~= "-" then headers["Authorization"] = args[2] end
  if args[1]:find("^set") or args[1]:find("^sdk") or args[1] == "incr" or args[1] == "mget" then
    headers["Content-Type"] = JSON
  end
end

function request()
  return make()
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"statuses":%d,"sockets":%d,"timeouts":%d,' ..
    '"checked":0,"wrong":0,"example":"","p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
