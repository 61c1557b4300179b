public import Core

/// A message that was read.
public struct ChatMessage: Equatable, Sendable {
    public enum Kind: Equatable, Sendable {
        case text
        case media(MediaKind)
        /// Somebody was added by the sender.
        case membersAdded([UserID])
        case joinedByLink, joinedByRequest
        case memberRemoved(UserID)
        /// Another event of the chat's life.
        case service(String)
        /// Newer than this program: counted, never a reason to fail a page.
        case other(String)
    }
    public enum MediaKind: String, Sendable, CaseIterable {
        case photo, video, animation, audio, document, voiceNote = "voice_note", videoNote = "video_note",
            sticker
        case poll, paidMedia = "paid_media", location, contact
    }

    public let id: MessageID
    public let chat: ChatID
    public let sender: MessageSender?
    /// What was told of the sender in the same breath.
    public let author: Person?
    public let date: Timestamp
    public let editedAt: Timestamp?
    public let isOutgoing: Bool
    public let isChannelPost: Bool
    public let kind: Kind
    /// The text, or the caption.
    public let text: String
    /// The stable id of the file, where there is one.
    public let fileID: String?
    /// Those of one album share it; 0 for none.
    public let albumID: Int64
    public let views: Int
    public let forwards: Int
    /// Nil: comments are off.
    public let comments: Int?
    /// Of all kinds together.
    public let reactions: Int
    public let replyTo: MessageID?
    public let forwardedFrom: MessageSender?
    public let authorSignature: String

    /// The number in t.me links.
    public var linkNumber: Int64 { id >> 20 }
    public var hasMedia: Bool {
        if case .media = kind { true } else { false }
    }
}

/// A page of messages, newest first, and where the next older one begins; nil at the end.
public struct MessagePage: Equatable, Sendable {
    public let messages: [ChatMessage]
    public let next: MessageID?

    public init(messages: [ChatMessage], next: MessageID?) {
        self.messages = messages
        self.next = next
    }
}

/// The comments under a channel's post.
public struct CommentThread: Equatable, Sendable {
    /// The discussion group, where they are written.
    public let chat: ChatID
    public let threadID: MessageID
    public let count: Int
}

/// A message that arrived at Telegram.
public struct SentMessage: Equatable, Sendable {
    public let chat: ChatID
    public let id: MessageID
    public let date: Timestamp
}

extension ChatMessage {
    init(_ json: JSONValue, person: (UserID) -> Person?) {
        id = json.int("id")
        chat = ChatID(rawValue: json.int("chat_id"))
        sender = MessageSender(json["sender_id"])
        if case .person(let id)? = sender { author = person(id) } else { author = nil }
        date = Timestamp(seconds: json.int("date"))
        let edited = json.int("edit_date")
        editedAt = edited > 0 ? Timestamp(seconds: edited) : nil
        isOutgoing = json.flag("is_outgoing")
        isChannelPost = json.flag("is_channel_post")
        let content = json["content"] ?? .null
        kind = Kind(content)
        text = (content["text"] ?? content["caption"])?.text("text") ?? ""
        fileID = content.fileID
        albumID = json.int("media_album_id")
        let interaction = json["interaction_info"]
        views = Int(interaction?.int("view_count") ?? 0)
        forwards = Int(interaction?.int("forward_count") ?? 0)
        comments = interaction?["reply_info"].map { Int($0.int("reply_count")) }
        reactions = (interaction?["reactions"]?.list("reactions") ?? []).reduce(0) {
            $0 + Int($1.int("total_count"))
        }
        let reply = json["reply_to"]
        replyTo = reply?.type == "messageReplyToMessage" ? reply?.int("message_id") : nil
        forwardedFrom = MessageSender(origin: json["forward_info"]?["origin"])
        authorSignature = json.text("author_signature")
    }
}

extension MessageSender {
    fileprivate init?(origin: JSONValue?) {
        switch origin?.type {
        case "messageOriginUser": self = .person(origin?.int("sender_user_id") ?? 0)
        case "messageOriginChat": self = .chat(ChatID(rawValue: origin?.int("sender_chat_id") ?? 0))
        case "messageOriginChannel": self = .chat(ChatID(rawValue: origin?.int("chat_id") ?? 0))
        default: return nil
        }
    }
}

extension ChatMessage.Kind {
    private static let media: [String: ChatMessage.MediaKind] = [
        "messagePhoto": .photo, "messageVideo": .video, "messageAnimation": .animation,
        "messageAudio": .audio,
        "messageDocument": .document, "messageVoiceNote": .voiceNote, "messageVideoNote": .videoNote,
        "messageSticker": .sticker, "messageAnimatedEmoji": .sticker, "messagePoll": .poll,
        "messagePaidMedia": .paidMedia, "messageLocation": .location, "messageVenue": .location,
        "messageContact": .contact,
    ]

    init(_ content: JSONValue) {
        let type = content.type
        switch type {
        case "messageText", "messageRichMessage": self = .text
        case "messageChatAddMembers": self = .membersAdded(content.ids("member_user_ids"))
        case "messageChatJoinByLink": self = .joinedByLink
        case "messageChatJoinByRequest": self = .joinedByRequest
        case "messageChatDeleteMember": self = .memberRemoved(content.int("user_id"))
        default:
            if let media = Self.media[type] {
                self = .media(media)
            } else if type.hasPrefix("messageChat") || type.hasPrefix("messagePin")
                || type.hasPrefix("messageSupergroup") || type.hasPrefix("messageBasicGroup")
            {
                self = .service(type)
            } else {
                self = .other(type)
            }
        }
    }
}

extension JSONValue {
    /// The stable id of the main file of a message's content.
    fileprivate var fileID: String? {
        func unique(_ file: JSONValue?) -> String? {
            let id = file?["remote"]?.text("unique_id") ?? ""
            return id.isEmpty ? nil : id
        }
        if let photo = self["photo"] { return unique(photo.list("sizes").last?["photo"]) }
        for name in ["video", "document", "audio", "animation", "sticker"] {
            if let media = self[name] { return unique(media[name]) }
        }
        if let note = self["voice_note"] { return unique(note["voice"]) }
        if let note = self["video_note"] { return unique(note["video"]) }
        return nil
    }
}
