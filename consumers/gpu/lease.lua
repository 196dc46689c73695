#!lua flags=allow-oom
-- Acquire, renew or release the right to use a GPU. Only its holder, or a consumer that finds it free, can.
--
-- KEYS  1 GPU lease
-- ARGV  1 consumer   2 lease_ms, 0 to release
-- reply 1 if that was done, 0 if another consumer holds the lease
-- Every lease expires. What does not, or is no string, is none, and must not block the GPU for ever.
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) ~= -1 then
    return 0
end
if ARGV[2] == '0' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
