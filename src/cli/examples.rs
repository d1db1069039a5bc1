//! Examples of the commands, as `--help` and the manual page show them.

/// An example of a command.
pub struct Example {
    /// Its purpose, in a line.
    pub purpose: &'static str,
    /// Lines for a shell, each of `COLUMNS_MAX` at most; a long command goes on after a backslash.
    pub lines: &'static [&'static str],
}

/// Columns of a line: those of a terminal that was never made wider, without the margin of a manual page.
#[cfg(test)]
pub const COLUMNS_MAX: usize = 69;

const fn example(purpose: &'static str, lines: &'static [&'static str]) -> Example {
    Example { purpose, lines }
}

/// The examples of each command, by its words.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "serve",
        &[
            example("A server for this machine alone, without keys", &["captcha serve"]),
            example(
                "A server for others, with keys and TLS",
                &[
                    "captcha serve --listen 0.0.0.0:8443 --keys-file keys.txt \\",
                    "    --tls-certificate-file chain.pem --tls-key-file key.pem \\",
                    "    --kafka-brokers kafka-0:9092,kafka-1:9092 \\",
                    "    --clickhouse-addr ch-0:9000,ch-1:9000",
                ],
            ),
            example(
                "A shop's pages may send events from browsers",
                &[
                    "captcha serve --keys-file keys.txt \\",
                    "    --cors-origins https://shop.example",
                ],
            ),
        ],
    ),
    (
        "serve new-key",
        &[
            example(
                "A key that sends events of all sites, 100 a second",
                &["captcha serve new-key --role write --sites '*' --rate 100 >> keys.txt"],
            ),
            example(
                "A key that reads one site, in a file of its own",
                &[
                    "captcha serve new-key --role read \\",
                    "    --sites 6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01 --note 'the shop' \\",
                    "    --key-out shop.key >> keys.txt",
                ],
            ),
        ],
    ),
    (
        "serve new-link",
        &[
            example(
                "A picture of the last 30 days, for 90 days",
                &[
                    "captcha serve new-link --link-secret-file links.txt \\",
                    "    --key 7889bbabd86e --expires 90d 'period=30d'",
                ],
            ),
            example(
                "A badge with the solve rate, as a whole address",
                &[
                    "captcha serve new-link --link-secret-file links.txt \\",
                    "    --key 7889bbabd86e --expires 30d \\",
                    "    --base-url https://captcha.example 'period=7d&badge=solve_rate'",
                ],
            ),
        ],
    ),
    (
        "serve keys",
        &[example(
            "The keys of a file, with what each may do",
            &["captcha serve keys --keys-file keys.txt"],
        )],
    ),
    (
        "consume",
        &[
            example("One consumer of all partitions", &["captcha consume"]),
            example(
                "The second of three consumers that share the partitions",
                &[
                    "captcha consume --partition-share 1/3 \\",
                    "    --kafka-brokers kafka-0:9092 --clickhouse-addr ch:9000",
                ],
            ),
        ],
    ),
    (
        "migrate",
        &[
            example("What would be done", &["captcha migrate --dry-run"]),
            example(
                "The tables and a topic of 12 partitions",
                &["captcha migrate --partitions 12"],
            ),
            example(
                "What is applied, and how the topic is made",
                &["captcha migrate --status"],
            ),
        ],
    ),
    (
        "migrate drop-months",
        &[
            example(
                "What would be dropped",
                &["captcha migrate drop-months --before 2026-01 --dry-run"],
            ),
            example(
                "Drop what arrived before January 2026",
                &["captcha migrate drop-months --before 2026-01"],
            ),
        ],
    ),
    (
        "report",
        &[
            example("The last seven days", &["captcha report --period 7d"]),
            example(
                "Today by hour, again every five seconds",
                &["captcha report --period today --interval hour --by none --watch"],
            ),
            example(
                "Yesterday by hour in Berlin, all sites together",
                &[
                    "captcha report --period yesterday --interval hour --by none \\",
                    "    --timezone Europe/Berlin",
                ],
            ),
            example(
                "How many challenges were solved, and how fast, against the week before",
                &[
                    "captcha report --period 7d --by none --compare previous_period \\",
                    "    --metrics challenges,solve_rate,solve_time_p50",
                ],
            ),
            example(
                "January's numbers of one site as CSV",
                &[
                    "captcha report --from 2026-01-01 --to 2026-02-01 --format csv \\",
                    "    --site-id 6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01 > january.csv",
                ],
            ),
            example(
                "A check for a script: exit code 4 unless the report is complete",
                &[
                    "captcha report --period yesterday \\",
                    "    --require-complete-through now-5m",
                ],
            ),
        ],
    ),
    (
        "report audit",
        &[
            example("All that Kafka and ClickHouse have", &["captcha report audit"]),
            example(
                "One day, for a program",
                &[
                    "captcha report audit --from 2026-01-31 --to 2026-02-01 \\",
                    "    --format json",
                ],
            ),
        ],
    ),
    (
        "report dead-letters",
        &[
            example("The first hundred", &["captcha report dead-letters"]),
            example(
                "All of them, each with its whole record",
                &["captcha report dead-letters --format ndjson > dead-letters.ndjson"],
            ),
        ],
    ),
];

/// The examples of a command, of which `-h` shows the first. A command is named by its words: `report audit`.
pub fn examples(command: &str) -> &'static [Example] {
    let examples = EXAMPLES.iter().find(|(words, _)| *words == command);
    examples.map_or(&[], |(_, examples)| examples)
}
