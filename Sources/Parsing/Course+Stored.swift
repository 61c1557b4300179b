public import Core

// A course as it is kept, and as it is shown.
extension Course.Coverage {
    var json: JSONValue {
        .object(present: [
            "read": .int(read), "reported": JSONValue(reported), "hidden": .int(hidden),
            "capped_at": cappedAt.map { .int($0) }, "members_hidden": isHidden ? true : nil,
            "limited": isLimited ? true : nil, "finished": .bool(isFinished),
        ])
    }

    fileprivate init(_ json: JSONValue) {
        read = json["read"]?.intValue ?? 0
        reported = json["reported"]?.intValue
        cappedAt = json["capped_at"]?.intValue
        isHidden = json["members_hidden"]?.boolValue ?? false
        isLimited = json["limited"]?.boolValue ?? false
        isFinished = json["finished"]?.boolValue ?? false
    }
}

extension Course {
    /// Of the task: what the first step has, and each step by name.
    public var coverageJSON: JSONValue {
        let main = steps.first.flatMap { coverage[$0] } ?? Coverage()
        var members = main.json.objectValue ?? []
        members.append(
            JSONMember(
                "steps", .object(steps.map { JSONMember($0.rawValue, coverage[$0]?.json ?? .null) })))
        return .object(members)
    }

    public func planJSON(_ language: Language) -> JSONValue {
        [
            "steps": .array(steps.map { .string($0.rawValue) }), "reason": .string(choice.rawValue),
            "message": .string(choice.sentence(language)),
        ]
    }

    var stored: JSONValue {
        func numbers(_ values: [Step: Int64]) -> JSONValue {
            .object(
                Step.allCases.compactMap { step in values[step].map { JSONMember(step.rawValue, .int($0)) } })
        }
        return .object(present: [
            "community": community?.json, "steps": .array(steps.map { .string($0.rawValue) }),
            "choice": .string(choice.rawValue), "index": JSONValue(index),
            "cursor": cursor.map { .string($0) },
            "posts": posts.isEmpty
                ? nil : .array(posts.map { ["id": .string($0.id), "comments": .int($0.comments)] }),
            "thread_cursor": threadCursor.map { .string($0) }, "thread": .int(thread),
            "posts_cursor": postsCursor.map { .string($0) }, "last_post": .bool(isLastPost),
            "coverage": .object(
                Step.allCases.compactMap { step in coverage[step].map { JSONMember(step.rawValue, $0.json) } }
            ),
            "newest": numbers(newest), "floor": numbers(floor),
            "newest_ordinal": newestOrdinal.map { .int($0) },
            "reached_ordinal": reachedOrdinal.map { .int($0) }, "newest_date": newestDate?.json,
            "reached_date": reachedDate?.json, "known": .int(known),
            "cursor_order": cursorOrder.map { .int($0) }, "post_order": postOrder.map { .int($0) },
            "begun": begun?.json,
        ])
    }

    init(stored json: JSONValue) {
        func numbers(_ name: String) -> [Step: Int64] {
            var result: [Step: Int64] = [:]
            for step in Step.allCases { result[step] = json[name]?[step.rawValue]?.intValue }
            return result
        }
        community = json["community"].flatMap { CommunityRecord($0) }
        steps = (json["steps"]?.arrayValue ?? []).compactMap { $0.stringValue.flatMap { Step(rawValue: $0) } }
        choice = json["choice"]?.stringValue.flatMap { Choice(rawValue: $0) } ?? .asked
        index = Int(json["index"]?.intValue ?? 0)
        cursor = json["cursor"]?.stringValue
        posts = (json["posts"]?.arrayValue ?? []).compactMap { post in
            post["id"]?.stringValue.map { Post(id: $0, comments: post["comments"]?.intValue ?? 0) }
        }
        threadCursor = json["thread_cursor"]?.stringValue
        thread = json["thread"]?.intValue ?? 0
        postsCursor = json["posts_cursor"]?.stringValue
        isLastPost = json["last_post"]?.boolValue ?? false
        for step in Step.allCases { coverage[step] = json["coverage"]?[step.rawValue].map { Coverage($0) } }
        newest = numbers("newest")
        floor = numbers("floor")
        newestOrdinal = json["newest_ordinal"]?.intValue
        reachedOrdinal = json["reached_ordinal"]?.intValue
        newestDate = json["newest_date"]?.stringValue.flatMap { Timestamp($0) }
        reachedDate = json["reached_date"]?.stringValue.flatMap { Timestamp($0) }
        known = json["known"]?.intValue ?? 0
        cursorOrder = json["cursor_order"]?.intValue
        postOrder = json["post_order"]?.intValue
        begun = json["begun"]?.stringValue.flatMap { Timestamp($0) }
    }
}
