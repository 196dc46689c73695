#!lua flags=allow-oom
-- A sender stops: the group forgets it, so that it no longer counts as alive, unless it still holds webhooks.
--
-- KEYS  1 webhooks
-- ARGV  1 group   2 sender
-- reply how many it still held; others will claim them
return leave_group(KEYS[1], ARGV[1], ARGV[2])
