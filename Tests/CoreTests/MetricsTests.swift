import Core
import Testing

@Suite struct `The metrics` {
    let metrics = Metrics()

    @Test func `are written as Prometheus reads them`() {
        metrics.counter("invites_total", "Invites sent").increment(by: 3)
        metrics.gauges("accounts", "By state", labels: ["status"])["flood\"wait\\\n"].set(2.5)
        let waits = metrics.histogram("wait_seconds", "Waiting", buckets: [0.1, 1])
        for value in [0.05, 0.1, 0.5, 7] { waits.observe(value) }
        #expect(
            metrics.text == """
                # HELP accounts By state
                # TYPE accounts gauge
                accounts{status="flood\\"wait\\\\\\n"} 2.5
                # HELP invites_total Invites sent
                # TYPE invites_total counter
                invites_total 3
                # HELP wait_seconds Waiting
                # TYPE wait_seconds histogram
                wait_seconds_bucket{le="0.1"} 2
                wait_seconds_bucket{le="1"} 3
                wait_seconds_bucket{le="+Inf"} 4
                wait_seconds_sum 7.65
                wait_seconds_count 4

                """)
    }

    @Test func `claim no type where a promised name would belie it`() {
        let metrics = Metrics()
        metrics.gauge("tasks_total", "Tasks there are").set(3)
        #expect(
            metrics.text == "# HELP tasks_total Tasks there are\n# TYPE tasks_total untyped\ntasks_total 3\n")
    }

    @Test func `give the same metric for the same name`() {
        metrics.counter("a_total", "A").increment()
        metrics.counter("a_total", "A").increment()
        #expect(metrics.counter("a_total", "A").value == 2)
    }

    @Test func `lose nothing when many count at once`() async {
        let counter = metrics.counter("b_total", "B")
        let gauge = metrics.gauge("c", "C")
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<10_000 {
                        counter.increment()
                        gauge.add(1)
                    }
                }
            }
        }
        #expect(counter.value == 80_000)
        #expect(gauge.value == 80_000)
    }

    @Test func `do not let values from outside fill the memory`() {
        let family = metrics.counters("d_total", "D", labels: ["path"])
        for number in 0..<5000 { family["p\(number)"].increment() }
        let lines = metrics.text.split(separator: "\n").filter { $0.hasPrefix("d_total{") }
        #expect(lines.count <= Metrics.seriesLimit + 1)
        #expect(lines.contains("d_total{path=\"other\"} \(5000 - Metrics.seriesLimit)"))
    }
}

@Suite struct `Registries that are read together` {
    @Test func `have one head for each name, and series that differ`() {
        let own = Metrics()
        let shared = Metrics(label: "shared", "process")
        own.counter("calls_total", "Calls").increment()
        shared.counter("calls_total", "Calls").increment(by: 2)
        shared.counters("misses_total", "Misses", labels: ["kind"])["cold"].increment()
        #expect(
            Metrics.text(of: [own, shared]) == """
                # HELP calls_total Calls
                # TYPE calls_total counter
                calls_total 1
                calls_total{shared="process"} 2
                # HELP misses_total Misses
                # TYPE misses_total counter
                misses_total{kind="cold",shared="process"} 1

                """)
    }
}
