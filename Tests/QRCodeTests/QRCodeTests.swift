import CZlib
import QRCode
import Testing

@Suite struct `A QR code` {
    private let link = "tg://login?token=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"

    @Test func `has the three marks a scanner looks for`() throws {
        let code = try QRCode(link)
        #expect(code.size == 33)  // Version 4 holds a login link at this level.
        let last = code.size - 7
        for (top, left) in [(0, 0), (0, last), (last, 0)] {
            let mark = (0..<7).map { row in
                (0..<7).map { code.isDark(row: top + row, column: left + $0) ? "#" : "." }.joined()
            }
            #expect(mark == ["#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######"])
        }
    }

    @Test func `is the same for the same text and another for another`() throws {
        #expect(try QRCode(link) == QRCode(link))
        #expect(try QRCode(link) != QRCode(link + "A"))
    }

    @Test func `refuses nothing and too much`() {
        #expect(throws: QRCodeError.empty) { try QRCode("") }
        #expect(throws: QRCodeError.tooLong) { try QRCode(String(repeating: "x", count: 5000)) }
    }

    @Test func `is drawn as SVG without a trace of its text`() throws {
        let code = try QRCode("<script>&\"'</script>")
        #expect(!code.svg.contains("script"))
        #expect(code.svg.hasPrefix("<svg xmlns=\"http://www.w3.org/2000/svg\""))
        #expect(drawn(svg: code.svg, size: code.size) == grid(of: code))
    }

    @Test(arguments: [1, 3, 8]) func `is drawn as PNG, point by point`(scale: Int) throws {
        let code = try QRCode(link)
        let image = try #require(Image(png: code.png(scale: scale)))
        #expect(image.width == (code.size + 8) * scale)
        let middle = (0..<code.size).map { row in
            (0..<code.size).map { image.isBlack((row + 4) * scale + scale / 2, ($0 + 4) * scale + scale / 2) }
        }
        #expect(middle == grid(of: code))
        // The frame is white all around.
        #expect((0..<image.width).allSatisfy { !image.isBlack(0, $0) && !image.isBlack(image.width - 1, $0) })
    }

    private func grid(of code: QRCode) -> [[Bool]] {
        (0..<code.size).map { row in (0..<code.size).map { code.isDark(row: row, column: $0) } }
    }

    /// Reads the path back: `M12 4h7v1H12z` is a run of 7 from column 12 in row 4.
    private func drawn(svg: String, size: Int) -> [[Bool]] {
        var grid = [[Bool]](repeating: [Bool](repeating: false, count: size), count: size)
        for run in svg.split(separator: "M").dropFirst() {
            let numbers = run.prefix { $0 != "v" }.split { !$0.isNumber }.compactMap { Int($0) }
            guard numbers.count == 3 else { continue }
            for column in numbers[0]..<numbers[0] + numbers[2] { grid[numbers[1] - 4][column - 4] = true }
        }
        return grid
    }
}

/// Reads what a PNG decoder reads of an image of one bit a point, check sums included.
private struct Image {
    let width: Int
    private let rows: [[UInt8]]

    init?(png: [UInt8]) {
        guard png.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else { return nil }
        func word(_ index: Int) -> Int { png[index..<index + 4].reduce(0) { $0 << 8 | Int($1) } }
        var index = 8
        var chunks: [String: [UInt8]] = [:]
        while index < png.count {
            let length = word(index)
            let checked = Array(png[index + 4..<index + 8 + length])
            guard Int(crc32(0, checked, uInt(checked.count))) == word(index + 8 + length) else { return nil }
            chunks[String(decoding: checked.prefix(4), as: UTF8.self)] = Array(checked.dropFirst(4))
            index += length + 12
        }
        guard let header = chunks["IHDR"], let data = chunks["IDAT"], chunks["IEND"] != nil,
            Array(header[8...]) == [1, 0, 0, 0, 0]
        else { return nil }
        width = word(16)
        let height = word(20)
        let rowLength = 1 + (width + 7) / 8
        var length = uLong(rowLength * height)
        var bytes = [UInt8](repeating: 0, count: Int(length))
        guard uncompress(&bytes, &length, data, uLong(data.count)) == Z_OK, Int(length) == bytes.count else {
            return nil
        }
        rows = (0..<height).map { Array(bytes[$0 * rowLength + 1..<($0 + 1) * rowLength]) }
    }

    func isBlack(_ row: Int, _ column: Int) -> Bool { rows[row][column / 8] & (0x80 >> (column % 8)) == 0 }
}
