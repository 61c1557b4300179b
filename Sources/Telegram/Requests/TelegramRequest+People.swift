import Core

extension TelegramRequest {
    static let getMe = TelegramRequest(.getMe)

    static func searchUser(phone: String) -> TelegramRequest {
        TelegramRequest(.searchUserByPhoneNumber, ["phone_number": .string(phone), "only_local": false])
    }

    static func importContacts(_ contacts: [NewContact]) -> TelegramRequest {
        TelegramRequest(
            .importContacts,
            [
                "contacts": .array(
                    contacts.map {
                        [
                            "@type": "importedContact", "phone_number": .string($0.phone),
                            "first_name": .string($0.firstName), "last_name": .string($0.lastName),
                        ]
                    })
            ])
    }

    static func removeContacts(_ people: [UserID]) -> TelegramRequest {
        TelegramRequest(.removeContacts, ["user_ids": .ids(people)])
    }

    static func getUser(_ id: UserID) -> TelegramRequest { TelegramRequest(.getUser, ["user_id": .int(id)]) }

    static func getUserFullInfo(_ id: UserID) -> TelegramRequest {
        TelegramRequest(.getUserFullInfo, ["user_id": .int(id)])
    }

    static func createPrivateChat(_ id: UserID) -> TelegramRequest {
        TelegramRequest(.createPrivateChat, ["user_id": .int(id), "force": true])
    }

    static func canSendMessage(to id: UserID) -> TelegramRequest {
        TelegramRequest(.canSendMessageToUser, ["user_id": .int(id), "only_local": false])
    }

    static func groupsInCommon(with id: UserID, after offset: ChatID?, limit: Int) -> TelegramRequest {
        TelegramRequest(
            .getGroupsInCommon,
            [
                "user_id": .int(id), "offset_chat_id": .int(offset?.rawValue ?? 0),
                "limit": .int(Int64(limit)),
            ])
    }
}
