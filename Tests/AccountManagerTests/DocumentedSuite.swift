import Cache
import Core
import HTTP
import Security
import Testing

@testable import AccountManagerWiring
@testable import ServiceKit

/// The documented test of the Account Manager, every command in its order and as it is written there, with the
/// answers it promises.
@Suite struct `The documented test suite` {
    @Test(arguments: Ground.available)
    func `passes in its order`(ground: Ground) async throws {
        try await Desk.open(ground) { try await passes($0) }
    }

    @Test(arguments: Ground.available)
    func `passes through integration-service as well`(ground: Ground) async throws {
        let key = Base64.encode(Array(repeating: 7, count: 32))
        try await Desk.open(ground, settings: [Secrets.tokenKey: key]) { desk in
            try await desk.throughIntegrationService { try await passes($0) }
        }
    }

    private func passes(_ desk: Desk) async throws {
        do {
            let connected = try await desk.connect()

            // Preparation
            let health = try await desk.get("/health")
            #expect(health.status == 200)
            #expect(health["status"] == "healthy")
            let before = try await desk.get("/stats/recovery")
            #expect(before.status == 200)
            #expect(before["total_accounts"] == 1)
            #expect(before["healthy_accounts"] == 1)
            #expect(before["health_percentage"]?.doubleValue == 100)

            // 1. Allocation
            let lease = try await desk.post(
                "/allocate",
                [
                    "user_id": 1, "purpose": "invite_campaign", "service_name": "test-service",
                    "timeout_minutes": 30,
                ])
            #expect(lease.status == 200)
            #expect(lease["account_id"]?.stringValue == connected)
            #expect(lease["phone"] == "+70000000000")
            #expect(lease["allocated_at"] == "2025-08-24T12:00:00Z")
            #expect(lease["expires_at"] == "2025-08-24T12:30:00Z")
            #expect(lease["limits"]?["daily_invite_limit"] == 30)
            #expect(lease["limits"]?["max_per_channel_total"] == 200)
            #expect(lease["current_usage"]?["used_invites_today"] == 0)
            let account = try #require(lease["account_id"]?.stringValue)

            // 2. Health of the account
            let account1 = try await desk.get("/health/\(account)")
            #expect(account1["is_healthy"] == true)
            #expect(account1["status"] == "active")
            #expect(account1["issues"] == ["Account is healthy"])
            #expect(account1["recovery_eta"]?.isNull == true)

            // 3. Limits
            let check = try await desk.post(
                "/rate-limit/check/\(account)",
                ["action_type": "invite", "target_channel_id": "@testchannel"])
            #expect(check["allowed"] == true)
            #expect(check["checks"]?["daily"] == ["used": 0, "limit": 30, "remaining": 30])
            #expect(check["checks"]?["per_channel"] == ["used": 0, "limit": 15, "remaining": 15])

            // 4. Recording
            let recorded = try await desk.post(
                "/rate-limit/record/\(account)",
                ["action_type": "invite", "target_channel_id": "@testchannel", "success": true])
            #expect(recorded["recorded"] == true)
            #expect(recorded["usage"]?["daily"]?["used"] == 1)

            // 5. Release: of the five invitations one was recorded, so four more are written.
            let released = try await desk.post(
                "/release/\(account)",
                [
                    "service_name": "test-service",
                    "usage_stats": [
                        "invites_sent": 5, "messages_sent": 0, "contacts_added": 0,
                        "channels_used": ["@testchannel"], "success": true,
                    ],
                ])
            #expect(released["success"] == true)

            // Limits per channel
            let status = try await desk.get("/rate-limit/status/\(account)")
            #expect(status["per_channel_limits"]?["testchannel"]?["total"]?.intValue == 5)
            for _ in 1...5 {
                let answer = try await desk.post(
                    "/rate-limit/record/\(account)",
                    ["action_type": "invite", "target_channel_id": "test_channel", "success": true])
                #expect(answer["recorded"] == true)
            }
            let updated = try await desk.get("/rate-limit/status/\(account)")
            #expect(
                updated["per_channel_limits"]?["test_channel"] == [
                    "today": 5, "total": 5, "daily_limit": 15, "total_limit": 200, "remaining_today": 10,
                    "remaining_total": 195,
                ])
            #expect(updated["daily_limits"]?["invite"]?["used"]?.intValue == 10)

            // Errors
            let flood = try await desk.post(
                "/handle-error/\(account)",
                [
                    "error_type": "flood_wait", "error_message": "FloodWaitError: 300",
                    "context": ["service": "test-service"],
                ])
            #expect(flood["blocked_seconds"] == 360)
            #expect(flood["new_status"] == "flood_wait")
            #expect(flood["recovery_at"] == "2025-08-24T12:06:00Z")
            #expect(flood["should_switch_account"] == true)
            let peer = try await desk.post(
                "/handle-error/\(account)",
                [
                    "error_type": "peer_flood", "error_message": "PeerFloodError: Too many requests",
                    "context": ["service": "test-service"],
                ])
            #expect(peer["new_status"] == "blocked")
            #expect(peer["recovery_at"] == "2025-08-25T12:00:00Z")

            // Statistics
            let after = try await desk.get("/stats/recovery")
            #expect(after["blocked_active"] == 1)
            #expect(after["recovery_queue_size"] == 1)
            let all = try await desk.get("/accounts/health")
            #expect(all["total"] == 1)
            #expect(all["items"]?[0]?["status"] == "blocked")
            #expect(all["items"]?[0]?["recovery_eta"] == "2025-08-25T12:00:00Z")

            // Redis
            let cache = desk.resources.cache
            let locks = try await cache.database(1).keys(matching: "account_lock:*")
            #expect(locks.isEmpty)
            let queue = try await cache.database(2).sortedRange("account_recovery_queue")
            #expect(queue.map(\.member.text) == [account])
            // The flood wait ends first; the recovery looks then, and again when the block ends.
            #expect(queue.first?.score == Double((noon + .seconds(360)).seconds))
        }
    }
}

@Suite struct `The contract of account-manager` {
    @Test func `names exactly what is served`() async throws {
        try await Desk.open { desk in
            let contract = try JSONValue.contract(ServiceDefinition.accountManager.contract)
            let served = desk.service.router.operations
            #expect(served == contract.operations)
        }
    }
}
