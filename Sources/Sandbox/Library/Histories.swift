import Core

// Messages: those a world was made with come from the seed, those written since are kept.
extension World {
    struct Written {
        let number: Int64
        let sender: Int64
        let date: Timestamp
        let content: JSONValue
        var views = 0
        var comments: Int?
        var thread: Int64?
        var forwards: Int64 = 0
        var reactions: Int64 = 0
        /// The number of the message it answers.
        var replyTo: Int64?
        var id: Int64 { number << 20 }
    }

    /// A message of a group by its number; nil where there is none.
    func message(_ number: Int64, in group: Group) -> Written? {
        guard number > 0 else { return nil }
        if number > group.historyCount {
            let index = Int(number - group.historyCount - 1)
            guard group.messages.indices.contains(index) else { return nil }
            let stored = group.messages[index]
            return Written(
                number: number, sender: stored.sender, date: stored.date, content: textContent(stored.text),
                thread: stored.thread)
        }
        let draw = luck(seed, 10, group.id, number)
        // The history ends with the world's beginning; an hour or so lies between two messages.
        let date =
            options.start - .seconds((group.historyCount - number + 1) * 1800 + Int64(draw.below(1700)))
        if group.kind == .channel {
            var post = Written(
                number: number, sender: group.chatID, date: date, content: content(draw, group, number))
            post.views = 50 + draw.below(5000)
            let echo = luck(seed, 13, group.id, number)
            post.reactions = Int64(echo.below(50))
            post.forwards = Int64((echo >> 16).below(30))
            if let discussion = group.linked.flatMap({ groups[$0] }) {
                post.comments = commentCount(number, in: discussion)
            }
            return post
        }
        if let channel = channel(of: group) {
            let (post, place) = number.quotientAndRemainder(dividingBy: Self.threadSpan)
            guard post >= 1, post <= channel.historyCount else { return nil }
            let thread = post * Self.threadSpan
            if place == 0 {
                return Written(
                    number: number, sender: channel.chatID, date: date,
                    content: content(luck(seed, 10, channel.id, post), channel, post), thread: thread)
            }
            guard place <= Int64(commentCount(post, in: group)) else { return nil }
            return Written(
                number: number, sender: draw.pick(group.founders), date: date,
                content: content(draw, group, number),
                thread: thread)
        }
        guard !group.founders.isEmpty else { return nil }
        // A tenth of the members writes most.
        let talkers = group.founders.count / 10 + 1
        let sender = group.founders[
            draw.perMille(700) ? draw.below(talkers) : draw.below(group.founders.count)]
        var written = Written(
            number: number, sender: sender, date: date, content: content(draw, group, number))
        let echo = luck(seed, 13, group.id, number)
        written.reactions = echo.perMille(200) ? Int64((echo >> 16).below(20) + 1) : 0
        let back = Int64((echo >> 24).below(10) + 1)
        if (echo >> 32).perMille(250), number > back { written.replyTo = number - back }
        return written
    }

    func channel(of group: Group) -> Group? {
        guard group.kind == .supergroup, let linked = group.linked.flatMap({ groups[$0] }),
            linked.kind == .channel
        else { return nil }
        return linked
    }

    /// How many comments a post was made with. A third has none.
    func commentCount(_ post: Int64, in discussion: Group) -> Int {
        let draw = luck(seed, 11, discussion.id, post)
        return draw.perMille(330) ? 0 : draw.below(Int(Self.threadSpan) - 2) + 1
    }

    private func content(_ draw: UInt64, _ group: Group, _ number: Int64) -> JSONValue {
        let text = luck(seed, 12, group.id, number).pick(Words.sentences)
        let file = "\(group.id)-\(number)"
        switch (draw >> 32).below(1000) {
        case 0..<780: return textContent(text)
        case 780..<860:
            return [
                "@type": "messagePhoto",
                "photo": [
                    "@type": "photo", "has_stickers": false,
                    "sizes": [
                        [
                            "@type": "photoSize", "type": "x", "photo": fileShape(file, 90_000), "width": 800,
                            "height": 600,
                            "progressive_sizes": [],
                        ]
                    ],
                ],
                "caption": formatted(text), "show_caption_above_media": false, "has_spoiler": false,
                "is_secret": false,
            ]
        case 860..<890:
            return [
                "@type": "messageVideo",
                "video": [
                    "@type": "video", "duration": 30, "width": 1280, "height": 720, "file_name": "video.mp4",
                    "mime_type": "video/mp4", "has_stickers": false, "supports_streaming": true,
                    "video": fileShape(file, 3_000_000),
                ],
                "alternative_videos": [], "storyboards": [], "start_timestamp": 0, "caption": formatted(text),
                "show_caption_above_media": false, "has_spoiler": false, "is_secret": false,
            ]
        case 890..<910:
            return [
                "@type": "messageDocument",
                "document": [
                    "@type": "document", "file_name": "notes.pdf", "mime_type": "application/pdf",
                    "document": fileShape(file, 500_000),
                ],
                "caption": formatted(""),
            ]
        case 910..<925:
            return [
                "@type": "messageVoiceNote",
                "voice_note": ["@type": "voiceNote", "duration": 7, "voice": fileShape(file, 20_000)],
                "caption": formatted(""), "is_listened": false,
            ]
        case 925..<940:
            return [
                "@type": "messageSticker",
                "sticker": ["@type": "sticker", "id": "1", "sticker": fileShape(file, 10_000)],
                "is_premium": false,
            ]
        case 940..<950:
            return [
                "@type": "messagePoll", "poll": ["@type": "poll", "id": "1"], "description": formatted(""),
            ]
        case 950..<970 where group.kind != .channel: return ["@type": "messageChatJoinByLink"]
        case 970..<980 where group.kind != .channel:
            return ["@type": "messageChatAddMembers", "member_user_ids": [.int(draw.pick(group.founders))]]
        case 980..<985 where options.isOdd:
            return ["@type": "messageHologram", "hologram": ["@type": "hologram"]]
        default: return textContent(text)
        }
    }

    private func fileShape(_ name: String, _ size: Int64) -> JSONValue {
        [
            "@type": "file", "id": 1, "size": .int(size), "expected_size": .int(size),
            "local": [
                "@type": "localFile", "path": "", "can_be_downloaded": true, "can_be_deleted": false,
                "is_downloading_active": false, "is_downloading_completed": false, "download_offset": 0,
                "downloaded_prefix_size": 0, "downloaded_size": 0,
            ],
            "remote": [
                "@type": "remoteFile", "id": .string("r\(name)"), "unique_id": .string("u\(name)"),
                "is_uploading_active": false, "is_uploading_completed": true, "uploaded_size": .int(size),
            ],
        ]
    }

    func formatted(_ text: String) -> JSONValue {
        ["@type": "formattedText", "text": .string(text), "entities": []]
    }

    func textContent(_ text: String) -> JSONValue { ["@type": "messageText", "text": formatted(text)] }

    func shape(
        _ written: Written, in chat: Int64, mine: Int64, sendingState: JSONValue? = nil, id: Int64? = nil
    ) -> JSONValue {
        let isPost = written.sender < 0
        var interaction: JSONValue?
        if written.views > 0 || written.reactions > 0 {
            interaction = .object(present: [
                "@type": "messageInteractionInfo", "view_count": JSONValue(written.views),
                "forward_count": .int(written.forwards),
                "reactions": written.reactions == 0
                    ? nil
                    : [
                        "@type": "messageReactions",
                        "reactions": [
                            [
                                "@type": "messageReaction",
                                "type": ["@type": "reactionTypeEmoji", "emoji": "👍"],
                                "total_count": .int(written.reactions), "is_chosen": false,
                                "recent_sender_ids": [],
                            ]
                        ], "are_tags": false, "paid_reactors": [], "can_get_added_reactions": false,
                    ],
                "reply_info": written.comments.map {
                    [
                        "@type": "messageReplyInfo", "reply_count": JSONValue($0), "recent_replier_ids": [],
                        "last_read_inbox_message_id": 0, "last_read_outbox_message_id": 0,
                        "last_message_id": 0,
                    ]
                },
            ])
        }
        return .object(present: [
            "@type": "message", "id": .int(id ?? written.id),
            "sender_id": isPost
                ? ["@type": "messageSenderChat", "chat_id": .int(written.sender)]
                : ["@type": "messageSenderUser", "user_id": .int(written.sender)],
            "chat_id": .int(chat), "sending_state": sendingState,
            "is_outgoing": .bool(written.sender == mine),
            "is_pinned": false, "is_from_offline": false, "can_be_saved": true,
            "has_timestamped_media": false,
            "is_channel_post": .bool(isPost && written.sender == chat), "is_paid_star_suggested_post": false,
            "is_paid_gram_suggested_post": false, "contains_unread_mention": false,
            "contains_unread_poll_votes": false,
            "date": .int(written.date.seconds), "edit_date": 0, "interaction_info": interaction,
            "unread_reactions": [],
            "reply_to": written.replyTo.map {
                [
                    "@type": "messageReplyToMessage", "chat_id": .int(chat), "message_id": .int($0 << 20),
                    "checklist_task_id": 0, "poll_option_id": "",
                ]
            },
            "topic_id": written.thread.map {
                ["@type": "messageTopicThread", "message_thread_id": .int($0 << 20)]
            },
            "self_destruct_in": 0.0, "auto_delete_in": 0.0, "via_bot_user_id": 0,
            "sender_business_bot_user_id": 0,
            "sender_boost_count": 0, "sender_tag": "", "paid_message_star_count": 0, "author_signature": "",
            "media_album_id": "0", "effect_id": "0", "summary_language_code": "", "content": written.content,
            "ephemeral_message_id": 0,
        ])
    }
}
