import Core

/// A command as Redis reads it: the number of its words, and before each word its length.
struct RedisWriter {
    private(set) var bytes: [UInt8] = []

    init(_ name: StaticString, words: Int, size: Int) {
        bytes.reserveCapacity(size + words * 12 + 48)
        header(UInt8(ascii: "*"), words + 1)
        bulk(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
    }

    mutating func add(_ word: CacheBytes) { bulk(word.bytes) }
    private mutating func bulk(_ word: some Collection<UInt8>) {
        header(UInt8(ascii: "$"), word.count)
        bytes.append(contentsOf: word)
        end()
    }

    private mutating func header(_ mark: UInt8, _ count: Int) {
        bytes.append(mark)
        if count < 10 {
            bytes.append(0x30 + UInt8(count))
        } else if count < 100 {
            bytes.append(0x30 + UInt8(count / 10))
            bytes.append(0x30 + UInt8(count % 10))
        } else {
            bytes.append(contentsOf: String(count).utf8)
        }
        end()
    }

    private mutating func end() {
        bytes.append(0x0D)
        bytes.append(0x0A)
    }
}

/// A command of words without options.
func encode(_ name: StaticString, _ words: [CacheBytes]) -> [UInt8] {
    var writer = RedisWriter(name, words: words.count, size: words.reduce(0) { $0 + $1.bytes.count })
    for word in words { writer.add(word) }
    return writer.bytes
}

extension CacheScript {
    func encoded(byDigest: Bool, keys: [CacheBytes], arguments: [CacheBytes]) -> [UInt8] {
        let text = byDigest ? digest : lua
        let size = (keys + arguments).reduce(text.bytes.count) { $0 + $1.bytes.count }
        var writer = RedisWriter(
            byDigest ? "EVALSHA" : "EVAL", words: 2 + keys.count + arguments.count, size: size)
        writer.add(text)
        writer.add(CacheBytes(keys.count))
        for key in keys { writer.add(key) }
        for argument in arguments { writer.add(argument) }
        return writer.bytes
    }
}

extension CacheCommand {
    var encoded: [UInt8] {
        switch self {
        case .get(let key): return encode("GET", [key])
        case .getMany(let keys): return encode("MGET", keys)
        case .set(let key, let value, let expiry, let condition):
            var words = [key, value]
            switch expiry {
            case .never: break
            case .after(let duration): words += ["PX", CacheBytes(Self.milliseconds(duration))]
            case .kept: words.append("KEEPTTL")
            }
            switch condition {
            case .any: break
            case .absent: words.append("NX")
            case .present: words.append("XX")
            }
            return encode("SET", words)
        case .getAndDelete(let key): return encode("GETDEL", [key])
        case .delete(let keys): return encode("DEL", keys)
        case .exists(let keys): return encode("EXISTS", keys)
        case .increment(let key, let amount): return encode("INCRBY", [key, CacheBytes(amount)])
        case .expire(let key, let duration, let condition):
            let words = [key, CacheBytes(Self.milliseconds(duration))]
            switch condition {
            case .always: return encode("PEXPIRE", words)
            case .none: return encode("PEXPIRE", words + ["NX"])
            case .some: return encode("PEXPIRE", words + ["XX"])
            case .later: return encode("PEXPIRE", words + ["GT"])
            case .earlier: return encode("PEXPIRE", words + ["LT"])
            }
        case .persist(let key): return encode("PERSIST", [key])
        case .timeToLive(let key): return encode("PTTL", [key])

        case .hashGet(let key, let field): return encode("HGET", [key, field])
        case .hashGetMany(let key, let fields): return encode("HMGET", [key] + fields)
        case .hashGetAll(let key): return encode("HGETALL", [key])
        case .hashSet(let key, let fields):
            return encode("HSET", [key] + fields.flatMap { [$0.name, $0.value] })
        case .hashDelete(let key, let fields): return encode("HDEL", [key] + fields)
        case .hashIncrement(let key, let field, let amount):
            return encode("HINCRBY", [key, field, CacheBytes(amount)])
        case .hashCount(let key): return encode("HLEN", [key])

        case .sortedAdd(let key, let members, let condition):
            var words = [key]
            switch condition {
            case .always: break
            case .absent: words.append("NX")
            case .present: words.append("XX")
            case .higher: words.append("GT")
            case .lower: words.append("LT")
            }
            return encode("ZADD", words + members.flatMap { [number($0.score), $0.member] })
        case .sortedRemove(let key, let members): return encode("ZREM", [key] + members)
        case .sortedScore(let key, let member): return encode("ZSCORE", [key, member])
        case .sortedIncrement(let key, let member, let amount):
            return encode("ZINCRBY", [key, number(amount), member])
        case .sortedCount(let key): return encode("ZCARD", [key])
        case .sortedCountByScore(let key, let range):
            return encode("ZCOUNT", [key, range.lowerWord, range.upperWord])
        case .sortedRank(let key, let member): return encode("ZRANK", [key, member])
        case .sortedRange(let key, let from, let through, let descending):
            return encode(
                "ZRANGE",
                [key, CacheBytes(from), CacheBytes(through)] + (descending ? ["REV"] : []) + ["WITHSCORES"])
        case .sortedRangeByScore(let key, let range, let limit):
            let cut: [CacheBytes] = limit.map { ["LIMIT", "0", CacheBytes(max($0, 0))] } ?? []
            return encode(
                "ZRANGE", [key, range.lowerWord, range.upperWord, "BYSCORE"] + cut + ["WITHSCORES"])
        case .sortedRemoveByScore(let key, let range):
            return encode("ZREMRANGEBYSCORE", [key, range.lowerWord, range.upperWord])
        case .sortedRemoveByRank(let key, let from, let through):
            return encode("ZREMRANGEBYRANK", [key, CacheBytes(from), CacheBytes(through)])
        case .sortedPopLowest(let key, let count): return encode("ZPOPMIN", [key, CacheBytes(count)])

        case .scan(let cursor, let pattern):
            return encode("SCAN", [CacheBytes(cursor), "MATCH", pattern, "COUNT", "500"])
        case .count: return encode("DBSIZE", [])
        case .flush: return encode("FLUSHDB", [])
        case .ping: return encode("PING", [])
        }
    }
}

extension ScoreRange {
    fileprivate var lowerWord: CacheBytes { excludesLower ? "(\(number(lower).text)" : number(lower) }
    fileprivate var upperWord: CacheBytes { excludesUpper ? "(\(number(upper).text)" : number(upper) }
}

/// A score as Redis reads it: as Swift writes it, except for its names of the infinite.
private func number(_ score: Double) -> CacheBytes {
    score.isInfinite ? (score > 0 ? "+inf" : "-inf") : CacheBytes(score.description)
}
