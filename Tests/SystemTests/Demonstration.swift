import Core
import Foundation
import TestServers
import Testing

@Suite(.timeLimit(.minutes(10))) struct `The demonstration` {
    @Test func `tells of a whole campaign, and its books agree`() async throws {
        let folder = try await TestServers.directory()
        let output = "\(folder)/story"
        let status = try await ChildProcess.run(
            Command(
                "\(RunningProgram.folder)/convoke", ["demo", "--data", "\(folder)/data"],
                environment: ["PATH": "/usr/bin:/bin", "TMPDIR": folder], output: .file(output)))
        let story = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        #expect(status == .exited(0), "\(story.suffix(2000))")
        for chapter in [
            "Connecting the operator's own accounts", "Finding an audience", "Preparing the campaign",
            "Telegram asks this account to wait", "COMPLETED", "invited twice: 0; limits broken: 0",
        ] {
            #expect(story.contains(chapter), "\(chapter): \(story)")
        }
    }
}
