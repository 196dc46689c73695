-- wrk: post one file's bytes again and again, and print the figures as one line of JSON.
-- arguments after `--`: content type, file
function init(arguments)
    local file = assert(io.open(arguments[2], 'rb'))
    wrk.method = 'POST'
    wrk.body = file:read('*a')
    wrk.headers['Content-Type'] = arguments[1]
    file:close()
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %.6f, "refused": 0, "errors": %d, "p50_ms": %.4f, "p99_ms": %.4f}',
        summary.requests - errors.status, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
