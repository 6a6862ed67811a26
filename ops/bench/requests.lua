-- wrk's load: random keys, values of 64 bytes, in the dialect of the system that is measured.
--
--     wrk -s requests.lua URL -- <dialect> <get|set> <keys> <tag> <checked|measured>
--
-- A checked run looks at each answer's status and body, which costs wrk so much that its rate says
-- nothing; a measured run leaves that to wrk's own count of statuses from 400 on. Both print one
-- line of JSON for ops/bench/wrk.py. There is one thread, so `done` finds one state to ask.

local VALUE_BYTES = 64
local JSON = { ["Content-Type"] = "application/json" }

local dialects = {
  synap = {
    get = function(key) return wrk.format("GET", "/kv/get/" .. key) end,
    set = function(key, value)
      return wrk.format("POST", "/kv/set", JSON, '{"key":"' .. key .. '","value":"' .. value .. '"}')
    end,
    got = '^"(key:%d+%-%w+%-+)"$',
    done = '"success":true',
  },
  -- Webdis reads a command from the body of a POST, which it answers faster than one in the path.
  webdis = {
    get = function(key) return wrk.format("GET", "/GET/" .. key) end,
    set = function(key, value) return wrk.format("POST", "/", nil, "SET/" .. key .. "/" .. value) end,
    got = '^{"GET":"(key:%d+%-%w+%-+)"}$',
    done = '"SET":[true,"OK"]',
  },
}

local states = {}
local dialect, operation, keys, tag

answered, wrong, example = 0, 0, ""

local function value_of(key)
  local text = key .. "-" .. tag .. "-"
  return text .. string.rep("-", VALUE_BYTES - #text)
end

local function is_right(status, body)
  if status ~= 200 then return false end
  if operation == "set" then return body:find(dialect.done, 1, true) ~= nil end
  local value = body:match(dialect.got)
  return value ~= nil and #value == VALUE_BYTES
end

local function check(status, headers, body)
  answered = answered + 1
  if not is_right(status, body) then
    wrong = wrong + 1
    example = (status .. " " .. body:sub(1, 80)):gsub('[%c"\\]', "'")
  end
end

function setup(thread)
  table.insert(states, thread)
end

function init(args)
  dialect, operation = dialects[args[1]], args[2]
  keys, tag = tonumber(args[3]), args[4]
  if args[5] == "checked" then response = check end
  math.randomseed(#tag + keys)
end

function request()
  local key = string.format("key:%06d", math.random(0, keys - 1))
  if operation == "get" then return dialect.get(key) end
  return dialect.set(key, value_of(key))
end

function done(summary, latency, requests)
  local e, state = summary.errors, states[1]
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"statuses":%d,"sockets":%d,"timeouts":%d,' ..
    '"checked":%d,"wrong":%d,"example":"%s","p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write, e.timeout,
    state:get("answered"), state:get("wrong"), state:get("example"),
    latency:percentile(50), latency:percentile(99), latency.max))
end
