import CQRCode

#if canImport(Glibc)
    import Glibc
#endif

public enum QRCodeError: Error, Equatable, Sendable {
    case empty
    /// More than the largest code can hold.
    case tooLong
    case outOfMemory
}

/// A text as a square of dark and light modules, for a camera to read.
public struct QRCode: Equatable, Sendable {
    /// Modules on one side.
    public let size: Int
    private let modules: [Bool]

    /// The light frame around the code, in modules, without which scanners do not find it.
    static let border = 4

    /// The smallest code that holds `text` and can still be read with 15 % of it damaged.
    public init(_ text: String) throws(QRCodeError) {
        guard !text.isEmpty else { throw .empty }
        var bytes = Array(text.utf8)
        let made = bytes.withUnsafeMutableBufferPointer {
            QRcode_encodeData(Int32($0.count), $0.baseAddress, 0, QR_ECLEVEL_M)
        }
        guard let made else { throw errno == ENOMEM ? .outOfMemory : .tooLong }
        defer { QRcode_free(made) }
        guard let data = made.pointee.data else { throw .outOfMemory }
        let width = Int(made.pointee.width)
        size = width
        // The lowest bit is the colour; the others say what the module is for.
        modules = (0..<width * width).map { data[$0] & 1 == 1 }
    }

    /// Whether the module is dark. Outside the code all is light.
    public func isDark(row: Int, column: Int) -> Bool {
        guard (0..<size).contains(row), (0..<size).contains(column) else { return false }
        return modules[row * size + column]
    }
}

extension QRCode {
    /// An image that stays sharp at any size. It holds numbers alone and nothing of the text, so it can stand
    /// in a page as it is.
    public var svg: String {
        let side = size + 2 * Self.border
        var path = ""
        for row in 0..<size {
            var column = 0
            while column < size {
                guard isDark(row: row, column: column) else {
                    column += 1
                    continue
                }
                let start = column
                while column < size, isDark(row: row, column: column) { column += 1 }
                path +=
                    "M\(start + Self.border) \(row + Self.border)h\(column - start)v1H\(start + Self.border)z"
            }
        }
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(side) \(side)" shape-rendering="crispEdges">\
            <rect width="\(side)" height="\(side)" fill="#fff"/><path d="\(path)" fill="#000"/></svg>
            """
    }

    /// An image of `scale` points a module.
    public func png(scale: Int = 8) -> [UInt8] {
        precondition((1...64).contains(scale), "a module has 1 to 64 points")
        let side = (size + 2 * Self.border) * scale
        let rowBytes = (side + 7) / 8
        var rows: [UInt8] = []
        rows.reserveCapacity(side * (rowBytes + 1))
        for row in -Self.border..<size + Self.border {
            var packed = [UInt8](repeating: 0, count: rowBytes)
            for point in 0..<side where !isDark(row: row, column: point / scale - Self.border) {
                packed[point / 8] |= 0x80 >> (point % 8)
            }
            for _ in 0..<scale { rows += [PNG.unfiltered] + packed }
        }
        return PNG.blackAndWhite(width: side, height: side, rows: rows)
    }
}
