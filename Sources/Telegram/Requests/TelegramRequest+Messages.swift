import Core

extension TelegramRequest {
    static func sendMessage(_ chat: ChatID, text: String, silent: Bool, sendingID: Int32) -> TelegramRequest {
        TelegramRequest(
            .sendMessage,
            [
                "chat_id": chat.json,
                "options": [
                    "@type": "messageSendOptions", "disable_notification": .bool(silent),
                    "from_background": true,
                    "sending_id": .int(Int64(sendingID)),
                ],
                "input_message_content": [
                    "@type": "inputMessageText",
                    "text": ["@type": "formattedText", "text": .string(text), "entities": []],
                    "clear_draft": false,
                ],
            ])
    }

    static func deleteMessages(_ chat: ChatID, _ ids: [MessageID], forAll: Bool) -> TelegramRequest {
        TelegramRequest(
            .deleteMessages, ["chat_id": chat.json, "message_ids": .ids(ids), "revoke": .bool(forAll)])
    }

    static func getHistory(_ chat: ChatID, before: MessageID, limit: Int) -> TelegramRequest {
        TelegramRequest(
            .getChatHistory,
            [
                "chat_id": chat.json, "from_message_id": .int(before), "offset": 0,
                "limit": .int(Int64(limit)),
                "only_local": false,
            ])
    }

    static func getMessage(_ chat: ChatID, _ id: MessageID) -> TelegramRequest {
        TelegramRequest(.getMessage, ["chat_id": chat.json, "message_id": .int(id)])
    }

    static func getThread(_ chat: ChatID, _ id: MessageID) -> TelegramRequest {
        TelegramRequest(.getMessageThread, ["chat_id": chat.json, "message_id": .int(id)])
    }

    static func getThreadHistory(
        _ chat: ChatID, _ id: MessageID, before: MessageID, limit: Int
    ) -> TelegramRequest {
        TelegramRequest(
            .getMessageThreadHistory,
            [
                "chat_id": chat.json, "message_id": .int(id), "from_message_id": .int(before), "offset": 0,
                "limit": .int(Int64(limit)),
            ])
    }

    static func getProperties(_ chat: ChatID, _ id: MessageID) -> TelegramRequest {
        TelegramRequest(.getMessageProperties, ["chat_id": chat.json, "message_id": .int(id)])
    }

    static func searchMessages(
        _ chat: ChatID, query: String, sender: UserID?, from: MessageID, limit: Int
    ) -> TelegramRequest {
        TelegramRequest(
            .searchChatMessages,
            [
                "chat_id": chat.json, "query": .string(query), "sender_id": sender.map { .sender($0) },
                "from_message_id": .int(from), "offset": 0, "limit": .int(Int64(limit)),
            ])
    }

    static func getMessageLink(_ chat: ChatID, _ id: MessageID) -> TelegramRequest {
        TelegramRequest(
            .getMessageLink,
            [
                "chat_id": chat.json, "message_id": .int(id), "media_timestamp": 0, "for_album": false,
                "in_message_thread": false,
            ])
    }
}
