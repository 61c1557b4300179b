import Core
import Testing

@testable import Broker

@Suite struct `The delay ladder` {
    @Test(arguments: [
        (Duration.zero, Duration?.none), (.milliseconds(-5), nil), (.milliseconds(1), .milliseconds(100)),
        (.milliseconds(100), .milliseconds(100)), (.milliseconds(101), .milliseconds(100)),
        (.milliseconds(480), .milliseconds(500)), (.seconds(1), .milliseconds(500)),
        (.seconds(59), .minutes(1)),
        (.minutes(50), .minutes(15)), (.days(9), .days(1)),
    ])
    func `begins with the rung that fits`(remaining: Duration, rung: Duration?) {
        #expect(DelayLadder.rung(for: remaining) == rung)
    }

    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func `never lets go early, nor more than a tenth of a second or a twentieth late`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let delay = Duration.milliseconds(random.int(in: 1...200_000_000))
        var waited = Duration.zero
        var hops = 0
        while let rung = DelayLadder.rung(for: delay - waited) {
            waited += rung
            hops += 1
        }
        #expect(waited >= delay)
        #expect(waited <= max(delay * 1.05, delay + .milliseconds(100)))
        #expect(hops <= 30)
    }
}

@Suite struct `The window of acknowledgements` {
    typealias Ack = AckWindow.Acknowledgement

    @Test func `says one multiple for an unbroken run`() {
        var window = AckWindow()
        for tag in 1...5 as ClosedRange<UInt64> { window.delivered(tag) }
        for tag in [2, 1, 3] as [UInt64] { window.settle(tag) }
        #expect(window.take() == [Ack(tag: 3, isMultiple: true)])
        #expect(window.take() == [])
        window.settle(4)
        #expect(window.take() == [Ack(tag: 4, isMultiple: false)])
    }

    @Test func `never says a multiple over one that is still held`() {
        var window = AckWindow()
        for tag in 1...4 as ClosedRange<UInt64> { window.delivered(tag) }
        window.settle(3)
        window.settle(4)
        #expect(window.take() == [Ack(tag: 3, isMultiple: false), Ack(tag: 4, isMultiple: false)])
        window.settle(1)
        #expect(window.take() == [Ack(tag: 1, isMultiple: false)])
        window.settle(2)
        #expect(window.take() == [Ack(tag: 2, isMultiple: false)])
        window.delivered(5)
        window.settle(5)
        #expect(window.take() == [Ack(tag: 5, isMultiple: false)])
    }

    /// The server forgets exactly what was settled, whatever the order.
    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func `tells the server of everything settled, once, and of nothing else`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        var window = AckWindow()
        var held: Set<UInt64> = []
        var atServer: Set<UInt64> = []
        var settled: Set<UInt64> = []
        var next: UInt64 = 1
        for _ in 0..<300 {
            switch random.int(in: 0...9) {
            case 0...3:
                window.delivered(next)
                held.insert(next)
                atServer.insert(next)
                next += 1
            case 4...6:
                guard let tag = random.shuffled(held.sorted()).first else { continue }
                held.remove(tag)
                settled.insert(tag)
                window.settle(tag)
            case 7:
                guard let tag = random.shuffled(held.sorted()).first else { continue }
                held.remove(tag)
                atServer.remove(tag)
                window.giveBack(tag)
            default:
                for ack in window.take() {
                    let told: Set<UInt64> = ack.isMultiple ? atServer.filter { $0 <= ack.tag } : [ack.tag]
                    #expect(!told.isEmpty && told.isSubset(of: settled.intersection(atServer)))
                    atServer.subtract(told)
                }
                #expect(atServer == held)
            }
        }
    }
}

@Suite struct `The window of confirms` {
    @Test func `gives each message its own answer`() {
        var window = ConfirmWindow<String>()
        for name in ["a", "b", "c", "d", "e"] { window.add(name) }
        #expect(window.take(2, isMultiple: false) == ["b"])
        #expect(window.take(2, isMultiple: false) == [])
        #expect(window.take(3, isMultiple: true) == ["a", "c"])
        #expect(window.open == ["d", "e"])
        #expect(window.base == 4)
        #expect(window.take(99, isMultiple: true) == [])
        window.add("f")
        #expect(window.take(6, isMultiple: true) == ["d", "e", "f"])
        #expect(window.isEmpty)
    }
}

@Suite struct `A RabbitMQ address` {
    @Test func `is read from a URL`() throws {
        let address = try #require(
            AMQPAddress("amqps://us%40er:pa%3Ass@mq.example:5999/my%2Fhost?heartbeat=5"))
        #expect(address.host == "mq.example")
        #expect(address.port == 5999)
        #expect(address.user == "us@er")
        #expect(address.password.expose() == "pa:ss")
        #expect(address.virtualHost == "my/host")
        #expect(address.isEncrypted)
        #expect(address.description == "amqps://mq.example:5999")
    }

    @Test func `needs no more than a host`() throws {
        let address = try #require(AMQPAddress("amqp://localhost"))
        #expect(address.port == 5672 && address.user == "guest" && address.virtualHost == "/")
        #expect(AMQPAddress("amqp://[::1]:5673/")?.host == "::1")
    }

    @Test(arguments: [
        "", "localhost", "http://localhost", "amqp://", "amqp://host:0", "amqp://host:x", "amqp://a%zz@h",
    ])
    func `is refused when it is none`(text: String) {
        #expect(AMQPAddress(text) == nil)
    }
}
