import CExpat

/// What somebody who reads a part of a workbook is told. Names come without their prefix.
protocol XMLListener: AnyObject {
    func began(_ name: XMLName, _ attributes: XMLAttributes)
    func ended(_ name: XMLName)
    func text(_ bytes: UnsafeBufferPointer<UInt8>)
}

/// Feeds XML to a listener as it is unpacked.
///
/// A document type is refused: no spreadsheet has one, and entities are how a kilobyte becomes a gigabyte.
final class XMLPart {
    static let deepest = 256
    /// A name or an attribute for which expat would have to keep more than this is no spreadsheet's.
    static let longestToken = 4 << 20
    static let pieceSize = 32 << 10

    private let entry: ZipEntry
    private let parser: XML_Parser
    private let listener: any XMLListener
    private var depth = 0
    private var fed = 0
    private var isRefused = false
    private(set) var hasEnded = false
    var progress: Double { entry.progress }

    init(_ entry: ZipEntry, _ listener: any XMLListener) throws(SheetError) {
        guard let parser = XML_ParserCreate(nil) else { throw .brokenXML(line: 0) }
        self.entry = entry
        self.parser = parser
        self.listener = listener
        XML_SetUserData(parser, Unmanaged.passUnretained(self).toOpaque())
        XML_SetElementHandler(parser, Self.onStart, Self.onEnd)
        XML_SetCharacterDataHandler(parser, Self.onText)
        XML_SetStartDoctypeDeclHandler(parser, Self.onDoctype)
    }

    deinit { XML_ParserFree(parser) }

    /// Parses one more piece; false at the end.
    func step() throws(SheetError) -> Bool {
        guard !hasEnded else { return false }
        let piece = try entry.read(upTo: Self.pieceSize)
        hasEnded = piece.isEmpty
        fed += piece.count
        let status = piece.withUnsafeBytes {
            XML_Parse(
                parser, $0.baseAddress?.assumingMemoryBound(to: CChar.self), Int32($0.count),
                hasEnded ? 1 : 0)
        }
        guard status == XML_STATUS_OK, !isRefused,
            fed - Int(XML_GetCurrentByteIndex(parser)) < Self.longestToken
        else { throw .brokenXML(line: Int(XML_GetCurrentLineNumber(parser))) }
        return !hasEnded
    }

    func run() throws(SheetError) { while try step() {} }

    private func refuse() {
        isRefused = true
        XML_StopParser(parser, 0)
    }

    private static func part(_ context: UnsafeMutableRawPointer?) -> XMLPart? {
        context.map { Unmanaged<XMLPart>.fromOpaque($0).takeUnretainedValue() }
    }

    private static let onStart:
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafePointer<CChar>?, UnsafeMutablePointer<UnsafePointer<CChar>?>?
        ) -> Void = { context, name, attributes in
            guard let part = part(context), let name else { return }
            part.depth += 1
            guard part.depth <= deepest else { return part.refuse() }
            part.listener.began(XMLName(name), XMLAttributes(attributes))
        }

    private static let onEnd: @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?) -> Void = {
        context, name in
        guard let part = part(context), let name else { return }
        part.depth -= 1
        part.listener.ended(XMLName(name))
    }

    private static let onText:
        @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int32) -> Void = {
            context, text, count in
            guard let part = part(context), let text else { return }
            text.withMemoryRebound(to: UInt8.self, capacity: Int(count)) {
                part.listener.text(UnsafeBufferPointer(start: $0, count: Int(count)))
            }
        }

    private static let onDoctype:
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafePointer<CChar>?, UnsafePointer<CChar>?, UnsafePointer<CChar>?,
            Int32
        ) -> Void = { context, _, _, _, _ in part(context)?.refuse() }
}

/// An element's name where expat keeps it: compared, never copied. Valid inside the callback alone.
struct XMLName {
    private let local: UnsafePointer<CChar>

    init(_ name: UnsafePointer<CChar>) {
        var local = name
        var index = name
        while index.pointee != 0 {
            if index.pointee == 0x3A { local = index + 1 }
            index += 1
        }
        self.local = local
    }

    static func == (name: XMLName, expected: StaticString) -> Bool {
        let count = expected.utf8CodeUnitCount
        for index in 0..<count where UInt8(bitPattern: name.local[index]) != expected.utf8Start[index] {
            return false
        }
        return name.local[count] == 0
    }
}

struct XMLAttributes {
    private let pairs: UnsafeMutablePointer<UnsafePointer<CChar>?>?

    init(_ pairs: UnsafeMutablePointer<UnsafePointer<CChar>?>?) { self.pairs = pairs }

    func bytes(_ name: StaticString) -> UnsafePointer<CChar>? {
        guard var pair = pairs else { return nil }
        while let key = pair[0] {
            if XMLName(key) == name { return pair[1] }
            pair += 2
        }
        return nil
    }

    subscript(name: StaticString) -> String? { bytes(name).map { String(cString: $0) } }
}
