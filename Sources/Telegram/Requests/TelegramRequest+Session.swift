import Core

// The client itself, and signing in.
extension TelegramRequest {
    static func setTdlibParameters(_ session: SessionParameters, _ app: TelegramApplication)
        -> TelegramRequest
    {
        TelegramRequest(
            .setTdlibParameters,
            [
                "use_test_dc": .bool(app.usesTestServers),
                "database_directory": .string(session.directory),
                "files_directory": .string(session.directory + "/files"),
                "database_encryption_key": .string(base64(session.encryptionKey.expose())),
                "use_file_database": .bool(session.keepsDatabase),
                "use_chat_info_database": .bool(session.keepsDatabase),
                // With it an unsent message would be sent again after a restart, behind our back.
                "use_message_database": false,
                "use_secret_chats": false,
                "api_id": .int(Int64(app.apiID)),
                "api_hash": .string(app.apiHash.expose()),
                "system_language_code": .string(app.languageCode),
                "device_model": .string(app.deviceModel),
                "system_version": .string(app.systemVersion),
                "application_version": .string(app.version),
            ])
    }

    static func setOption(_ name: String, _ value: OptionValue) -> TelegramRequest {
        TelegramRequest(.setOption, ["name": .string(name), "value": value.json])
    }

    static func getOption(_ name: String) -> TelegramRequest {
        TelegramRequest(.getOption, ["name": .string(name)])
    }

    static let getAuthorizationState = TelegramRequest(.getAuthorizationState)
    static let close = TelegramRequest(.close)
    static let destroy = TelegramRequest(.destroy)
    static let logOut = TelegramRequest(.logOut)
    static let getActiveSessions = TelegramRequest(.getActiveSessions)

    static func setNetworkType(isOn: Bool) -> TelegramRequest {
        TelegramRequest(.setNetworkType, ["type": .typed(isOn ? "networkTypeOther" : "networkTypeNone")])
    }

    static let requestQRCode = TelegramRequest(.requestQrCodeAuthentication, ["other_user_ids": []])

    static func setPhoneNumber(_ phone: String) -> TelegramRequest {
        TelegramRequest(
            .setAuthenticationPhoneNumber,
            [
                "phone_number": .string(phone),
                "settings": [
                    "@type": "phoneNumberAuthenticationSettings", "allow_flash_call": false,
                    "allow_missed_call": false, "is_current_phone_number": false,
                    "has_unknown_phone_number": false, "allow_sms_retriever_api": false,
                    "authentication_tokens": [],
                ],
            ])
    }

    static func checkCode(_ code: String) -> TelegramRequest {
        TelegramRequest(.checkAuthenticationCode, ["code": .string(code)])
    }

    static let resendCode = TelegramRequest(
        .resendAuthenticationCode, ["reason": .typed("resendCodeReasonUserRequest")])

    static func checkPassword(_ password: String) -> TelegramRequest {
        TelegramRequest(.checkAuthenticationPassword, ["password": .string(password)])
    }

    static func setEmailAddress(_ address: String) -> TelegramRequest {
        TelegramRequest(.setAuthenticationEmailAddress, ["email_address": .string(address)])
    }

    static func checkEmailCode(_ code: String) -> TelegramRequest {
        TelegramRequest(
            .checkAuthenticationEmailCode,
            ["code": ["@type": "emailAddressAuthenticationCode", "code": .string(code)]])
    }
}

/// A value of one of TDLib's options.
enum OptionValue: Equatable, Sendable {
    case flag(Bool)
    case number(Int64)
    case text(String)
    case empty

    var json: JSONValue {
        switch self {
        case .flag(let flag): ["@type": "optionValueBoolean", "value": .bool(flag)]
        // An int64, and those are texts.
        case .number(let number): ["@type": "optionValueInteger", "value": .string(String(number))]
        case .text(let text): ["@type": "optionValueString", "value": .string(text)]
        case .empty: ["@type": "optionValueEmpty"]
        }
    }

    init(_ json: JSONValue) {
        let value = json["value"]
        switch json["@type"]?.stringValue {
        case "optionValueBoolean": self = .flag(value?.boolValue ?? false)
        case "optionValueInteger": self = .number(value.flatMap(\.int64) ?? 0)
        case "optionValueString": self = .text(value?.stringValue ?? "")
        default: self = .empty
        }
    }
}

extension JSONValue {
    /// An object that is only its type.
    static func typed(_ type: String) -> JSONValue { ["@type": .string(type)] }

    static func ids(_ ids: some Sequence<Int64>) -> JSONValue { .array(ids.map { .int($0) }) }

    var type: String { self["@type"]?.stringValue ?? "" }

    /// TDLib's whole numbers: an int64 comes as a text, the smaller ones as numbers.
    var int64: Int64? {
        if case .string(let text) = self { Int64(text) } else { intValue }
    }

    func text(_ name: String) -> String { self[name]?.stringValue ?? "" }
    func int(_ name: String) -> Int64 { self[name]?.int64 ?? 0 }
    func flag(_ name: String) -> Bool { self[name]?.boolValue ?? false }
    func list(_ name: String) -> [JSONValue] { self[name]?.arrayValue ?? [] }
    func ids(_ name: String) -> [Int64] { list(name).compactMap(\.int64) }
}
