import Core
import Storage
import Testing

@Suite struct `The address of a database` {
    @Test func `is read from a URL`() {
        #expect(DatabaseLocation("sqlite:data/users.db") == .sqlite("data/users.db"))
        #expect(DatabaseLocation("sqlite:///var/users.db") == .sqlite("/var/users.db"))
        #expect(DatabaseLocation("sqlite::memory:") == .sqlite(":memory:"))
        #expect(DatabaseLocation("postgres://a:b@c/d") == .postgres(Secret("postgres://a:b@c/d")))
        #expect(DatabaseLocation("postgresql://c/d")?.dialect == .postgres)
        #expect(DatabaseLocation("mysql://c/d") == nil)
        #expect(DatabaseLocation("sqlite:") == nil)
    }

    @Test func `does not show its password`() {
        let text = String(reflecting: DatabaseLocation("postgres://a:hidden@c/d"))
        #expect(!text.contains("hidden"))
    }
}

@Suite struct `A statement` {
    @Test func `binds what comes from outside and numbers it across its parts`() {
        let evil = "'; DROP TABLE account; --"
        let part: SQL = "name = \(evil) AND age > \(18)"
        let sql: SQL = "SELECT * FROM account WHERE id IN \(list: [1, 2]) AND (\(part)) AND \(true)"
        #expect(sql.text == "SELECT * FROM account WHERE id IN ($1, $2) AND (name = $3 AND age > $4) AND $5")
        #expect(sql.arguments == [.integer(1), .integer(2), .text(evil), .integer(18), .bool(true)])
        #expect(("\(list: [Int]())" as SQL).text == "(NULL)")
    }
}

@Suite struct `A unique id` {
    @Test func `is read as it is written`() {
        let text = "0191a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b"
        #expect(UniqueID(text)?.description == text)
        #expect(UniqueID(text.uppercased())?.description == text)
        for wrong in ["", "0191a2b3", text + "0", "0191a2b3c4d57e6f8a9b0c1d2e3f4a5b", "g" + text.dropFirst()]
        {
            #expect(UniqueID(wrong) == nil, "\(wrong)")
        }
    }

    @Test func `sorts by the moment it was made at`() {
        let random = SeededRandom(seed: 7)
        let ids = (0..<100).map { UniqueID(at: Timestamp(milliseconds: 1_756_000_000_000 + $0), random) }
        #expect(ids == ids.sorted() && ids.map(\.description) == ids.map(\.description).sorted())
        #expect(
            ids.allSatisfy { Array($0.description)[14] == "7" && "89ab".contains(Array($0.description)[19]) })
        let plain = UniqueID(random).description
        #expect(Array(plain)[14] == "4" && "89ab".contains(Array(plain)[19]))
    }
}
