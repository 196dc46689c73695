#!lua flags=allow-oom
-- Take a consumer's seat at a GPU, keep it, or leave it; only who holds it or finds it free can.
--
-- KEYS  1 seat
-- ARGV  1 consumer   2 lease_ms, 0 to leave
-- reply 1 where that was done, 0 where the seat is another's
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
if ARGV[2] == '0' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
