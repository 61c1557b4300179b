public import Core

/// What has been sent of a campaign, as far as its pace goes.
public struct PaceState: Equatable, Sendable {
    public var startedAt: Timestamp?
    public var lastSentAt: Timestamp?
    /// Attempts since midnight on the campaign's clock.
    public var sentToday: Int

    public init(startedAt: Timestamp? = nil, lastSentAt: Timestamp? = nil, sentToday: Int = 0) {
        self.startedAt = startedAt
        self.lastSentAt = lastSentAt
        self.sentToday = sentToday
    }
}

/// Why a campaign waits, in the word that programs read.
public enum WaitReason: String, Sendable, CaseIterable {
    case scheduled, window
    case dailyCap = "daily_cap"
    case rampUp = "ramp_up"
    case delay
    /// account-manager has nobody to hand out.
    case noAccount = "no_account"
    /// No connected account may invite in the group.
    case noAdministrator = "no_administrator"
    /// Every account that is left has been turned away by the group.
    case groupRefuses = "group_refuses"
    /// Telegram or one of our services does not answer.
    case unreachable
    /// What failed in passing is tried again later.
    case retry
    /// It is being found out whether attempts arrived.
    case inDoubt = "in_doubt"
    /// The failure rate went over the campaign's own bound.
    case autoPaused = "auto_paused"
    case operatorPaused = "paused"

    public func text(until: Timestamp?) -> LocalizedText {
        let (english, russian): (String, String) =
            switch self {
            case .scheduled: ("Waits for its scheduled start", "Ждёт назначенного начала")
            case .window:
                ("Waits for the campaign's hours", "Ждёт часов, в которые разрешена рассылка")
            case .dailyCap: ("The campaign's daily cap is reached", "Достигнут дневной предел кампании")
            case .rampUp: ("Today's share of the ramp-up is used", "Использована сегодняшняя доля разгона")
            case .delay: ("Waits between two invitations", "Пауза между приглашениями")
            case .noAccount: ("No account is free", "Нет свободного аккаунта")
            case .noAdministrator:
                (
                    "No connected account has the right to invite in this group",
                    "Ни у одного подключённого аккаунта нет права приглашать в эту группу"
                )
            case .groupRefuses:
                (
                    "The group turns these accounts away: it is full, closed, or restricts them",
                    "Группа не принимает эти аккаунты: она заполнена, закрыта или ограничивает их"
                )
            case .unreachable:
                ("Telegram or a service of ours does not answer", "Не отвечает Telegram или одна из служб")
            case .retry:
                ("Some people are to be tried again later", "Часть людей будет приглашена повторно позже")
            case .inDoubt:
                (
                    "It is being looked up whether some invitations arrived",
                    "Проверяется, дошли ли некоторые приглашения"
                )
            case .autoPaused:
                (
                    "Paused by itself: too many invitations failed",
                    "Остановлена автоматически: слишком много приглашений не удалось"
                )
            case .operatorPaused: ("Paused by the operator", "Остановлена оператором")
            }
        guard let until else { return LocalizedText("\(english).", "\(russian).") }
        return LocalizedText("\(english), until \(until).", "\(russian), до \(until).")
    }
}

public enum PaceVerdict: Equatable, Sendable {
    case send
    case wait(until: Timestamp, WaitReason)
}

extension TaskSettings {
    /// When the campaign's day began.
    public func dayStart(at now: Timestamp) -> Timestamp {
        let zone = window?.zone ?? .utc
        return zone.moment(ofWall: zone.wall(at: now).day.start)
    }

    /// Whether the campaign may send now. The latest end binds; it is told the time and looks nothing up.
    public func pace(_ state: PaceState, at now: Timestamp) -> PaceVerdict {
        let zone = window?.zone ?? .utc
        func opening(_ moment: Timestamp) -> Timestamp { window?.opening(from: moment) ?? moment }
        let today = zone.wall(at: now).day
        let tomorrow = zone.moment(ofWall: today.next.start)
        if let dailyCap, state.sentToday >= dailyCap {
            return .wait(until: opening(tomorrow), .dailyCap)
        }
        if let rampUp {
            let firstDay = zone.wall(at: state.startedAt ?? now).day
            if state.sentToday >= rampUp.cap(onDay: Int(today.number - firstDay.number)) {
                return .wait(until: opening(tomorrow), .rampUp)
            }
        }
        let open = opening(now)
        if open > now { return .wait(until: open, .window) }
        if delay > .zero, let last = state.lastSentAt, last + delay > now {
            return .wait(until: opening(last + delay), .delay)
        }
        return .send
    }
}
