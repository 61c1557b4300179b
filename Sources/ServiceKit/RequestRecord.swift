import Core
import HTTP

/// Gives every request its id, trace and language, and writes it down when it has been answered: one line in
/// the log, one count in the metrics.
struct RequestRecord: Sendable {
    private let log: Log
    private let time: any TimeSource
    private let random: SeededRandom
    private let requests: Labeled<Counter>
    private let durations: Labeled<Histogram>

    init(log: Log, metrics: Metrics, time: any TimeSource, random: any RandomSource) {
        self.log = log
        self.time = time
        // Ids are no secrets: one draw from the kernel is enough for all of them.
        self.random = SeededRandom(seed: random.next())
        requests = metrics.counters(
            "http_requests_total", "Requests answered", labels: ["method", "route", "status"])
        durations = metrics.histograms(
            "http_request_duration_seconds", "From a request's head to its answer's head", labels: ["route"])
    }

    func attach(to router: inout Router) {
        router.prepare { request in
            request.id = Self.acceptableID(request.headers["x-request-id"]) ?? Self.newID(random)
            request.trace =
                request.headers["traceparent"].flatMap { TraceContext($0) }?.child(random)
                ?? TraceContext(random)
            request.language = Language(accepting: request.headers["accept-language"])
            request.log = log.with(["request_id": .id(request.id), "trace_id": .id(request.trace.traceID)])
            request.arrivedAt = time.uptime
        }
        router.observe { request, response in
            let duration = time.uptime - request.arrivedAt
            let route = request.route.isEmpty ? "none" : request.route
            let method = Self.label(of: request.method)
            requests[method, route, String(response.status)].increment()
            durations[route].observe(duration)
            // Health checks and readings of metrics come every few seconds and say nothing.
            let level: LogLevel = Self.quiet.contains(route) && response.status < 400 ? .debug : .info
            request.log.write(
                level, "request.answered",
                [
                    "method": .id(method), "route": .id(route),
                    "status": .int(response.status),
                    "duration_ms": .duration(duration),
                ])
        }
    }

    private static let quiet: Set<String> = ["/health", "/metrics", "/api/v1/health/detailed"]

    /// An id from outside is taken over where it cannot do harm in a log or a header.
    static func acceptableID(_ id: String?) -> String? {
        guard let id, (1...64).contains(id.utf8.count) else { return nil }
        let isFine = id.utf8.allSatisfy {
            ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || ($0 >= 0x30 && $0 <= 0x39)
                || [UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ".")].contains($0)
        }
        return isFine ? id : nil
    }

    /// `r` and the number to the base of 36.
    private static func newID(_ random: SeededRandom) -> String {
        var left = random.next()
        return unsafe String(unsafeUninitializedCapacity: 14) { characters in
            unsafe characters[0] = UInt8(ascii: "r")
            for place in stride(from: 13, to: 0, by: -1) {
                let digit = UInt8(left % 36)
                unsafe characters[place] = digit < 10 ? 0x30 + digit : 0x57 + digit
                left /= 36
            }
            return 14
        }
    }

    /// Methods from outside must not become labels of their own.
    private static func label(of method: Method) -> String {
        known.contains(method.rawValue) ? method.rawValue : "other"
    }

    private static let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
}
