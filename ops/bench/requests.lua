-- wrk's load: random keys in the dialect of the system that is measured.
--
--     wrk -s requests.lua URL -- \
--         <dialect> <operation> <keys> <tag> <checked|measured> <value bytes> <mean delay>
--
-- Operations are get and set, and for synap mget and mset, of 100 keys each. With a mean delay above
-- 0, in ms, each connection waits before each request, for times that are spread as those between
-- independent events.
--
-- A checked run looks at each answer's status and body, which costs wrk so much that its rate says
-- nothing; a measured run leaves that to wrk's own count of statuses from 400 on. Both print one
-- line of JSON for ops/bench/wrk.py. There is one thread, so `done` finds one state to ask.

local MANY = 100
local JSON = { ["Content-Type"] = "application/json" }

local dialect, operation, keys, tag, value_bytes, mean_delay

local function random_key()
  return string.format("key:%06d", math.random(0, keys - 1))
end

local function value_of(key)
  local text = key .. "-" .. tag .. "-"
  return text .. string.rep("-", value_bytes - #text)
end

local function is_value(text)
  return #text == value_bytes and text:find("^key:%d+%-%w+%-+$") ~= nil
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for at = 1, #text, 3 do
    local a, b, c = text:byte(at, at + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for step = 3, 0, -1 do
      local digit = math.floor(bits / 64 ^ step) % 64 + 1
      out[#out + 1] = ALPHABET:sub(digit, digit)
    end
    if not c then out[#out] = "=" end
    if not b then out[#out - 1] = "=" end
  end
  return table.concat(out)
end

-- Each operation: what makes the request, and what a right body is.
local dialects = {
  synap = {
    get = {
      function() return wrk.format("GET", "/kv/get/" .. random_key()) end,
      function(body) return is_value(body:match('^"(.*)"$') or "") end,
    },
    set = {
      function()
        local key = random_key()
        local body = '{"key":"' .. key .. '","value":"' .. value_of(key) .. '"}'
        return wrk.format("POST", "/kv/set", JSON, body)
      end,
      function(body) return body:find('"success":true', 1, true) ~= nil end,
    },
    mget = {
      function()
        local names = {}
        for place = 1, MANY do names[place] = '"' .. random_key() .. '"' end
        return wrk.format("POST", "/kv/mget", JSON, '{"keys":[' .. table.concat(names, ",") .. "]}")
      end,
      function(body)
        local count = 0
        for value in body:gmatch('"(key:[^"]*)"') do
          if not is_value(value) then return false end
          count = count + 1
        end
        return count == MANY
      end,
    },
    mset = {
      function()
        local pairs = {}
        for place = 1, MANY do
          local key = random_key()
          pairs[place] = '["' .. key .. '","' .. value_of(key) .. '"]'
        end
        return wrk.format("POST", "/kv/mset", JSON, '{"pairs":[' .. table.concat(pairs, ",") .. "]}")
      end,
      function(body) return body == '{"success":true}' end,
    },
  },
  -- Webdis reads a command from the body of a POST, which it answers faster than one in the path.
  webdis = {
    get = {
      function() return wrk.format("GET", "/GET/" .. random_key()) end,
      function(body) return is_value(body:match('^{"GET":"(.*)"}$') or "") end,
    },
    set = {
      function()
        local key = random_key()
        return wrk.format("POST", "/", nil, "SET/" .. key .. "/" .. value_of(key))
      end,
      function(body) return body:find('"SET":[true,"OK"]', 1, true) ~= nil end,
    },
  },
}

-- The gateway of etcd wants base64. A body is made once for each key, so that wrk keeps up.
local bodies = {}

local function etcd_body(key)
  local body = bodies[key]
  if not body then
    body = '{"key":"' .. base64(key) .. '","value":"' .. base64(value_of(key)) .. '"}'
    bodies[key] = body
  end
  return body
end

dialects.etcd = {
  set = {
    function() return wrk.format("POST", "/v3/kv/put", JSON, etcd_body(random_key())) end,
    function(body) return body:find('"revision":"%d+"') ~= nil end,
  },
}

local states = {}
local make, is_right

answered, wrong, example = 0, 0, ""

local function check(status, headers, body)
  answered = answered + 1
  if status ~= 200 or not is_right(body) then
    wrong = wrong + 1
    example = (status .. " " .. body:sub(1, 80)):gsub('[%c"\\]', "'")
  end
end

local function pause()
  return math.floor(-math.log(1 - math.random()) * mean_delay + 0.5)
end

function setup(thread)
  table.insert(states, thread)
end

function init(args)
  dialect, operation = args[1], args[2]
  keys, tag = tonumber(args[3]), args[4]
  value_bytes, mean_delay = tonumber(args[6]), tonumber(args[7])
  make, is_right = unpack(dialects[dialect][operation])
  if args[5] == "checked" then response = check end
  if mean_delay > 0 then delay = pause end
  math.randomseed(#tag + keys)
end

function request()
  return make()
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
