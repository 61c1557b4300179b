import Core

extension Cache {
    /// Removes the key if it still holds `value`: how the owner of a lock gives it back, and nobody else's.
    @discardableResult
    public func delete(_ key: CacheBytes, ifEqual value: CacheBytes) async throws -> Bool {
        try await run(.compareAndDelete, keys: [key], arguments: [value]).asFlag
    }

    /// Gives the key a new time to live if it still holds `value`: how the owner of a lock keeps it.
    @discardableResult
    public func expire(_ key: CacheBytes, after duration: Duration, ifEqual value: CacheBytes) async throws
        -> Bool
    {
        let milliseconds = CacheBytes(CacheCommand.milliseconds(duration))
        return try await run(.compareAndExpire, keys: [key], arguments: [value, milliseconds]).asFlag
    }
}

extension CacheScript {
    /// Keys: the lock. Arguments: the value its owner set.
    public static let compareAndDelete = CacheScript(
        "compare-and-delete",
        lua: """
            if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
            return 0
            """
    ) { store, keys, arguments in
        let key = try first(keys)
        guard let held = try store.call(.get(key)).asBytes, held == arguments.first else {
            return .integer(0)
        }
        return try store.call(.delete([key]))
    }

    /// Keys: the lock. Arguments: the value its owner set, the time to live in ms.
    public static let compareAndExpire = CacheScript(
        "compare-and-expire",
        lua: """
            if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
            return 0
            """
    ) { store, keys, arguments in
        let key = try first(keys)
        guard let held = try store.call(.get(key)).asBytes, held == arguments.first else {
            return .integer(0)
        }
        let duration = Duration.milliseconds(try integer(arguments, 1))
        return try store.call(.expire(key, after: duration, condition: .always))
    }
}
