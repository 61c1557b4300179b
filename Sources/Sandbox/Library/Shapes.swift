import Core

// TDLib's objects, as 1.8.69 writes them: `@type` first, absent objects left out, int64 as text.
extension World {
    func userShape(_ id: Int64, for client: Client) -> JSONValue? {
        if let number = account(withID: id) {
            let account = accounts[number]
            return shape(
                id: id, first: "Account", last: String(number), username: "account_\(number)",
                phone: account.phone,
                type: ["@type": "userTypeRegular"],
                status: ["@type": "userStatusOnline", "expires": .int(now.seconds + 300)],
                isContact: false, isMutual: false, isPremium: account.isPremium, restricts: false, stars: 0,
                isScam: false)
        }
        guard let human = human(id) else { return nil }
        let isContact = client.account.map { accounts[$0].contacts.contains(id) } ?? false
        return shape(
            id: id, first: human.firstName, last: human.lastName, username: human.username,
            phone: human.showsPhone || isContact ? human.phone : "", type: typeShape(human),
            status: statusShape(human),
            isContact: isContact, isMutual: false, isPremium: human.isPremium,
            restricts: human.temper == .premiumOnly, stars: human.stars, isScam: false)
    }

    private func typeShape(_ human: Human) -> JSONValue {
        switch human.temper {
        case .deleted: ["@type": "userTypeDeleted"]
        case .bot, .groupShyBot:
            [
                "@type": "userTypeBot", "can_be_edited": false,
                "can_join_groups": .bool(human.temper == .bot),
                "can_read_all_group_messages": false,
            ]
        default: ["@type": "userTypeRegular"]
        }
    }

    private func statusShape(_ human: Human) -> JSONValue {
        switch human.lastSeen {
        case 0: ["@type": "userStatusOffline", "was_online": .int(now.seconds - 3600)]
        case 1: ["@type": "userStatusRecently", "by_my_privacy_settings": false]
        case 2: ["@type": "userStatusLastWeek", "by_my_privacy_settings": false]
        case 3: ["@type": "userStatusLastMonth", "by_my_privacy_settings": false]
        default: ["@type": "userStatusEmpty"]
        }
    }

    private func shape(
        id: Int64, first: String, last: String, username: String?, phone: String, type: JSONValue,
        status: JSONValue,
        isContact: Bool, isMutual: Bool, isPremium: Bool, restricts: Bool, stars: Int64, isScam: Bool
    ) -> JSONValue {
        .object(present: [
            "@type": "user", "id": .int(id), "first_name": .string(first), "last_name": .string(last),
            "usernames": username.map { usernamesShape($0) }, "phone_number": .string(phone),
            "status": status,
            "accent_color_id": 0, "background_custom_emoji_id": "0", "profile_accent_color_id": -1,
            "profile_background_custom_emoji_id": "0", "is_contact": .bool(isContact),
            "is_mutual_contact": .bool(isMutual),
            "is_close_friend": false, "is_premium": .bool(isPremium), "is_support": false,
            "restricts_new_chats": .bool(restricts), "paid_message_star_count": .int(stars),
            "have_access": true,
            "type": type, "language_code": "", "added_to_attachment_menu": false,
        ])
    }

    private func usernamesShape(_ name: String) -> JSONValue {
        [
            "@type": "usernames", "active_usernames": [.string(name)], "disabled_usernames": [],
            "editable_username": .string(name), "collectible_usernames": [], "secondary_username": "",
        ]
    }

    func groupShape(_ group: Group, for client: Client) -> JSONValue {
        let me = client.account.map { accounts[$0].id } ?? 0
        if group.kind == .basicGroup {
            return [
                "@type": "basicGroup", "id": .int(group.id), "member_count": JSONValue(group.memberCount),
                "status": standingShape(group.standing(of: me)), "is_active": .bool(group.upgradedTo == nil),
                "upgraded_to_supergroup_id": .int(group.upgradedTo ?? 0),
            ]
        }
        return .object(present: [
            "@type": "supergroup", "id": .int(group.id),
            "usernames": group.username.map { usernamesShape($0) },
            "date": .int(options.start.seconds - 86_400 * 300),
            "status": standingShape(group.standing(of: me)),
            "member_count": JSONValue(group.memberCount), "boost_level": 0,
            "has_automatic_translation": false,
            "has_linked_chat": .bool(group.linked != nil), "has_location": false, "sign_messages": false,
            "show_message_sender": false, "join_to_send_messages": false,
            "join_by_request": .bool(group.joinByRequest),
            "is_slow_mode_enabled": false, "is_channel": .bool(group.kind == .channel),
            "is_broadcast_group": false,
            "is_forum": false, "is_direct_messages_group": false,
            "is_administered_direct_messages_group": false,
            "has_direct_messages_group": false, "has_forum_tabs": false,
            "paid_message_star_count": .int(0),
        ])
    }

    func fullShape(_ group: Group, for client: Client) -> JSONValue {
        let me = client.account.map { accounts[$0].id } ?? 0
        let standing = group.standing(of: me)
        if group.kind == .basicGroup {
            return [
                "@type": "basicGroupFullInfo", "description": .string(group.about), "creator_user_id": 0,
                "members": .array(group.members.map { memberShape(group, $0) }), "can_hide_members": false,
                "can_toggle_aggressive_anti_spam": false, "bot_commands": [],
            ]
        }
        let canList = group.kind == .channel ? standing.isAdministrator : true
        return [
            "@type": "supergroupFullInfo", "description": .string(group.about),
            "member_count": JSONValue(group.memberCount),
            "administrator_count": JSONValue(group.administrators.count),
            "restricted_count": 0, "banned_count": 0,
            "linked_chat_id": .int(group.linked.map { -1_000_000_000_000 - $0 } ?? 0),
            "direct_messages_chat_id": 0,
            "slow_mode_delay": 0, "slow_mode_delay_expires_in": 0.0, "can_get_members": .bool(canList),
            "has_hidden_members": .bool(group.hidesMembers), "can_hide_members": false,
            "can_get_statistics": false,
            "is_all_history_available": true, "guard_bot_user_id": 0, "bot_commands": [],
            "upgraded_from_basic_group_id": 0, "upgraded_from_max_message_id": 0,
        ]
    }

    func standingShape(_ standing: Standing) -> JSONValue {
        switch standing.kind {
        case .creator: ["@type": "chatMemberStatusCreator", "is_anonymous": false, "is_member": true]
        case .administrator:
            [
                "@type": "chatMemberStatusAdministrator", "can_be_edited": false,
                "rights": [
                    "@type": "chatAdministratorRights", "can_manage_chat": true, "can_change_info": false,
                    "can_post_messages": false, "can_edit_messages": false, "can_delete_messages": true,
                    "can_invite_users": .bool(standing.mayInvite), "can_restrict_members": false,
                    "can_pin_messages": false, "can_manage_topics": false, "can_promote_members": false,
                    "can_manage_video_chats": false, "can_post_stories": false, "can_edit_stories": false,
                    "can_delete_stories": false, "can_manage_direct_messages": false,
                    "can_manage_tags": false,
                    "can_send_welcome_messages": false, "is_anonymous": false,
                ],
            ]
        case .member: ["@type": "chatMemberStatusMember", "member_until_date": 0]
        case .restricted:
            [
                "@type": "chatMemberStatusRestricted", "is_member": true, "restricted_until_date": 0,
                "permissions": permissionsShape(false),
            ]
        case .left: ["@type": "chatMemberStatusLeft"]
        case .banned: ["@type": "chatMemberStatusBanned", "banned_until_date": 0]
        }
    }

    func memberShape(_ group: Group, _ user: Int64) -> JSONValue {
        let standing = group.standing(of: user)
        return [
            "@type": "chatMember", "member_id": ["@type": "messageSenderUser", "user_id": .int(user)],
            "tag": "",
            "inviter_user_id": .int(standing.inviter),
            "joined_chat_date": .int(
                standing.isMember
                    ? (standing.since == .epoch
                        ? options.start.seconds - 86_400 * Int64(1 + luck(seed, 9, user).below(200))
                        : standing.since.seconds) : 0),
            "status": standingShape(standing),
        ]
    }

    private func permissionsShape(_ mayWrite: Bool) -> JSONValue {
        [
            "@type": "chatPermissions", "can_send_basic_messages": .bool(mayWrite),
            "can_send_audios": .bool(mayWrite),
            "can_send_documents": .bool(mayWrite), "can_send_photos": .bool(mayWrite),
            "can_send_videos": .bool(mayWrite),
            "can_send_video_notes": .bool(mayWrite), "can_send_voice_notes": .bool(mayWrite),
            "can_send_polls": .bool(mayWrite), "can_send_other_messages": .bool(mayWrite),
            "can_add_link_previews": .bool(mayWrite), "can_react_to_messages": true, "can_edit_tag": false,
            "can_change_info": false, "can_invite_users": .bool(mayWrite), "can_pin_messages": false,
            "can_create_topics": false,
        ]
    }

    func chatShape(_ chat: Int64, for client: Client) -> JSONValue? {
        let title: String
        let type: JSONValue
        var mayWrite = true
        if let group = group(ofChat: chat) {
            title = group.title
            mayWrite = group.membersMayWrite && group.kind != .channel
            type =
                group.kind == .basicGroup
                ? ["@type": "chatTypeBasicGroup", "basic_group_id": .int(group.id)]
                : [
                    "@type": "chatTypeSupergroup", "supergroup_id": .int(group.id),
                    "is_channel": .bool(group.kind == .channel),
                ]
        } else if chat > 0, let user = userShape(chat, for: client) {
            title = [user["first_name"]?.stringValue ?? "", user["last_name"]?.stringValue ?? ""]
                .filter { !$0.isEmpty }.joined(separator: " ")
            type = ["@type": "chatTypePrivate", "user_id": .int(chat)]
        } else {
            return nil
        }
        return [
            "@type": "chat", "id": .int(chat), "type": type, "title": .string(title), "accent_color_id": 0,
            "background_custom_emoji_id": "0", "profile_accent_color_id": -1,
            "profile_background_custom_emoji_id": "0",
            "permissions": permissionsShape(mayWrite), "positions": [], "chat_lists": [],
            "has_protected_content": false, "is_translatable": false, "is_marked_as_unread": false,
            "view_as_topics": false, "has_scheduled_messages": false, "can_be_deleted_only_for_self": true,
            "can_be_deleted_for_all_users": false, "can_be_reported": true,
            "default_disable_notification": false,
            "unread_count": 0, "last_read_inbox_message_id": 0, "last_read_outbox_message_id": 0,
            "unread_mention_count": 0, "unread_reaction_count": 0, "message_auto_delete_time": 0,
            "has_welcome_messages": false, "reply_markup_message_id": 0, "client_data": "",
        ]
    }

    // MARK: - Objects before ids

    func introduce(user id: Int64, to client: Client) {
        guard client.seenUsers.insert(id).inserted, let user = userShape(id, for: client) else { return }
        emit(client, ["@type": "updateUser", "user": user])
    }

    func introduce(chat id: Int64, to client: Client) {
        guard !client.seenChats.contains(id) else { return }
        if let group = group(ofChat: id) {
            client.seenChats.insert(id)
            tellGroup(group, to: client)
        } else {
            introduce(user: id, to: client)
            client.seenChats.insert(id)
        }
        if let chat = chatShape(id, for: client) { emit(client, ["@type": "updateNewChat", "chat": chat]) }
    }

    /// Tells of a group's state, as after every change of it.
    func tellGroup(_ group: Group, to client: Client) {
        let shape = groupShape(group, for: client)
        emit(
            client,
            group.kind == .basicGroup
                ? ["@type": "updateBasicGroup", "basic_group": shape]
                : ["@type": "updateSupergroup", "supergroup": shape])
    }

    func stateUpdate(_ stage: Client.Stage) -> JSONValue {
        let state: JSONValue =
            switch stage {
            case .waitParameters: ["@type": "authorizationStateWaitTdlibParameters"]
            case .waitPhone: ["@type": "authorizationStateWaitPhoneNumber"]
            case .waitScan(let token):
                [
                    "@type": "authorizationStateWaitOtherDeviceConfirmation",
                    "link": .string("tg://login?token=\(token)"),
                ]
            case .waitCode(let number, _, let resent):
                [
                    "@type": "authorizationStateWaitCode",
                    "code_info": .object(present: [
                        "@type": "authenticationCodeInfo", "phone_number": .string(phone(number)),
                        "type": [
                            "@type": .string(
                                resent ? "authenticationCodeTypeSms" : "authenticationCodeTypeTelegramMessage"
                            ),
                            "length": 5,
                        ],
                        "next_type": resent ? nil : ["@type": "authenticationCodeTypeSms", "length": 5],
                        "timeout": .int(resent ? 0 : 60),
                    ]),
                ]
            case .waitPassword:
                [
                    "@type": "authorizationStateWaitPassword", "password_hint": "sandbox-…",
                    "has_recovery_email_address": false, "has_passport_data": false,
                    "recovery_email_address_pattern": "",
                ]
            case .waitEmailAddress:
                [
                    "@type": "authorizationStateWaitEmailAddress", "allow_apple_id": false,
                    "allow_google_id": false,
                ]
            case .waitRegistration:
                [
                    "@type": "authorizationStateWaitRegistration",
                    "terms_of_service": [
                        "@type": "termsOfService",
                        "text": ["@type": "formattedText", "text": "Terms", "entities": []],
                        "min_user_age": 0,
                        "show_popup": false,
                    ],
                ]
            case .waitPremium:
                [
                    "@type": "authorizationStateWaitPremiumPurchase", "store_product_id": "premium",
                    "premium_day_count": 7, "support_email_address": "", "support_email_subject": "",
                ]
            case .ready: ["@type": "authorizationStateReady"]
            case .closed: ["@type": "authorizationStateClosed"]
            }
        return ["@type": "updateAuthorizationState", "authorization_state": state]
    }

    /// Of an account, or of a number that has none.
    func phone(_ number: Int) -> String {
        accounts.indices.contains(number) ? accounts[number].phone : ""
    }
}
