import Core
import Foundation
import Testing

@Suite struct `Files` {
    private let folder = NSTemporaryDirectory() + "convoke-files-" + UUID().uuidString

    private func write(_ text: String, to name: String) throws {
        try FileSystem.makeFolder((folder + "/" + name as NSString).deletingLastPathComponent, mode: 0o700)
        try Data(text.utf8).write(to: URL(filePath: folder + "/" + name))
    }

    @Test func `are read whole, and refused where they are too large`() throws {
        defer { try? FileSystem.remove(folder) }
        let text = String(repeating: "ш", count: 20_000)
        try write(text, to: "a")
        #expect(try FileSystem.read(folder + "/a") == Array(text.utf8))
        #expect(try FileSystem.read(folder + "/a", limit: 40_000).count == 40_000)
        #expect(throws: FileError.self) { try FileSystem.read(folder + "/a", limit: 39_999) }
        #expect(throws: FileError.self) { try FileSystem.read(folder + "/missing") }
        #expect(FileSystem.size(of: folder + "/a") == 40_000)
        // One that does not know its length.
        #expect(try FileSystem.read("/proc/self/status").isEmpty == false)
    }

    @Test func `are listed with those below, without links`() throws {
        defer { try? FileSystem.remove(folder) }
        try write("", to: "b/c/file")
        try write("", to: "a")
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/link", withDestinationPath: folder + "/a")
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/b/outside", withDestinationPath: "/etc")
        #expect(try FileSystem.files(under: folder) == ["a", "b/c/file"])
        #expect(FileSystem.kind(of: folder + "/b") == .folder)
        #expect(FileSystem.kind(of: folder + "/link") == .other)
        #expect(FileSystem.kind(of: folder + "/missing") == nil)
        #expect(throws: FileError.self) { try FileSystem.files(under: folder + "/missing") }
    }

    @Test func `are removed with all below, and what a link leads to stays`() throws {
        let outside = folder + "-outside"
        defer { try? FileSystem.remove(outside) }
        try FileSystem.makeFolder(outside, mode: 0o700)
        try Data("kept".utf8).write(to: URL(filePath: outside + "/kept"))
        try write("", to: "b/c/file")
        try FileManager.default.createSymbolicLink(atPath: folder + "/b/link", withDestinationPath: outside)
        try FileSystem.remove(folder)
        #expect(FileSystem.kind(of: folder) == nil)
        #expect(FileSystem.size(of: outside + "/kept") == 4)
        try FileSystem.remove(folder)
    }

    @Test func `have folders made for their owner, once`() throws {
        defer { try? FileSystem.remove(folder) }
        try FileSystem.makeFolder(folder + "/x/y", mode: 0o700)
        try FileSystem.makeFolder(folder + "/x/y", mode: 0o700)
        let mode = try FileManager.default.attributesOfItem(atPath: folder + "/x")[.posixPermissions] as? Int
        #expect(mode == 0o700)
        try write("", to: "file")
        #expect(throws: FileError.self) { try FileSystem.makeFolder(folder + "/file/x", mode: 0o700) }
    }
}
