import Contracts
import Core
import HTTP
import ServiceKit

/// The results of parse tasks, read from parsing-service line by line while they come.
struct ParsingResults: Sendable {
    let peers: Peers
    static let service = "parsing-service"
    static let lineLimit = 1 << 20

    /// Hands on the results of a task in pieces. What breaks off in the middle is an error, not an end.
    func people(
        of task: String, _ filters: [(name: String, value: String)], for user: Int64,
        _ body: ([JSONValue]) async throws -> Void
    ) async throws {
        var query = "format=ndjson&kind=people"
        for filter in filters { query += "&\(percentEncoded(filter.name))=\(percentEncoded(filter.value))" }
        let response: ClientResponse
        do {
            response = try await peers.ask(
                Self.service, .get, "/api/v1/results/\(percentEncoded(task))/export?\(query)",
                onBehalfOf: .acting(for: user), deadline: .seconds(60))
        } catch is ClientError {
            throw PeerError.unavailable(service: Self.service, mayHaveActed: false)
        }
        guard response.status == 200 else { throw await refusal(response) }
        var lines = LineCutter(limit: Self.lineLimit)
        do {
            for try await bytes in response.body {
                let values = try lines.cut(bytes)
                if !values.isEmpty { try await body(values) }
            }
        } catch is ClientError {
            throw PeerError.unavailable(service: Self.service, mayHaveActed: false)
        }
        let last = try lines.end()
        if !last.isEmpty { try await body(last) }
    }

    private func refusal(_ response: ClientResponse) async -> any Error {
        let json = (try? await response.json(limit: 64 << 10)) ?? .null
        switch response.status {
        case 404:
            return Problem(
                404, "unknown_parse_task",
                .init("There is no such parse task", "Такой задачи парсинга нет"))
        case 400..<500:
            return PeerError.refused(
                service: Self.service, status: response.status, code: json["code"]?.stringValue ?? "",
                detail: String((json["detail"]?.stringValue ?? "").prefix(500)))
        default: return PeerError.unavailable(service: Self.service, mayHaveActed: false)
        }
    }
}

/// Cuts a stream of bytes into lines of JSON.
struct LineCutter {
    private let limit: Int
    private var begun: Bytes = []

    init(limit: Int) { self.limit = limit }

    mutating func cut(_ bytes: Bytes) throws -> [JSONValue] {
        var values: [JSONValue] = []
        var start = bytes.startIndex
        while let lineEnd = bytes[start...].firstIndex(of: 0x0A) {
            begun.append(contentsOf: bytes[start..<lineEnd])
            values += try end()
            start = lineEnd + 1
        }
        begun.append(contentsOf: bytes[start...])
        guard begun.count <= limit else { throw unreadable }
        return values
    }

    /// What stands behind the last line break.
    mutating func end() throws -> [JSONValue] {
        defer { begun.removeAll(keepingCapacity: true) }
        guard begun.contains(where: { $0 > 0x20 }) else { return [] }
        do { return [try JSONValue(parsing: begun)] } catch { throw unreadable }
    }

    private var unreadable: PeerError { .unreadable(service: ParsingResults.service) }
}
