-- Reports what wrk counted as one line of JSON. With arguments, FILE PATH, each request takes the next line's first
-- word out of FILE for the %s in PATH.
function init(args)
	if not args[1] then
		return
	end
	local tokens, n = {}, 0
	for line in io.lines(args[1]) do
		tokens[#tokens + 1] = line:match("%S+")
	end
	request = function()
		n = n + 1
		return wrk.format("GET", (args[2]:gsub("%%s", tokens[n % #tokens + 1])))
	end
end

function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format(
		'{"requests":%d,"bytes":%d,"seconds":%.6f,"p50_us":%.0f,"p99_us":%.0f,"connect_errors":%d,' ..
		'"read_errors":%d,"write_errors":%d,"timeouts":%d,"not_2xx_or_3xx":%d}\n',
		summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
		e.connect, e.read, e.write, e.timeout, e.status))
end
