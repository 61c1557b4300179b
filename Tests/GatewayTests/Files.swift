import Foundation
import Glibc

func write(_ text: String, to path: String) throws {
    let folder = URL(filePath: path).deletingLastPathComponent()
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(filePath: path))
}

func shutdownSending(_ socket: Int32) { _ = shutdown(socket, Int32(SHUT_WR)) }
