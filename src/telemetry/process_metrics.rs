//! Metrics that every process has: its version, what it logs, refused logins, and the resources that it uses, from
//! Linux's `/proc`.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::{logging, login_refusals};

/// The version of the executable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// Metrics that every process has.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
    };
    registry.register("captcha_build", "Which captcha this is", Info::new(build));
    logging::register(&mut registry);
    login_refusals::register(&mut registry);
    registry.register_collector(Box::new(ProcessCollector::new()));
    registry
}

/// Reads `/proc` whenever the metrics are read. The names are those that all Prometheus clients use; without `/proc`
/// there are none of them.
#[derive(Debug)]
struct ProcessCollector {
    /// Seconds since 1970. Read once, because the system derives it from its clock, which may be set.
    started: Option<f64>,
}

impl ProcessCollector {
    fn new() -> ProcessCollector {
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot = boot.and_then(|text| boot_seconds(&text));
        let start = Stat::read().map(|stat| ticks_to_seconds(stat.start_ticks));
        ProcessCollector {
            started: boot.zip(start).map(|(boot, start)| boot + start),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let cpu = ticks_to_seconds(stat.cpu_ticks);
        encoder
            .encode_descriptor(
                "process_cpu",
                "Processor time that the process used.",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&cpu, None)?;
        let mut gauge = |name, help, unit: Option<Unit>, value: f64| {
            encoder
                .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
                .encode_gauge(&value)
        };
        gauge(
            "process_resident_memory",
            "Resident memory of the process.",
            Some(Unit::Bytes),
            (stat.resident_pages * page_size() as u64) as f64,
        )?;
        gauge(
            "process_virtual_memory",
            "Address space of the process.",
            Some(Unit::Bytes),
            stat.virtual_bytes as f64,
        )?;
        if let Some(count) = open_fds() {
            gauge("process_open_fds", "Descriptors that are open.", None, count as f64)?;
        }
        // Without a limit: the largest number.
        let max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        gauge("process_max_fds", "Descriptors that may be open.", None, max as f64)?;
        if let Some(started) = self.started {
            gauge(
                "process_start_time",
                "When the process started, since 1970.",
                Some(Unit::Seconds),
                started,
            )?;
        }
        Ok(())
    }
}

fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

/// How many descriptors are open. Since Linux 6.2 it is the size of the folder; before that the size is 0, and they are
/// counted, without the one that counting takes.
fn open_fds() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some((fs::read_dir(FOLDER).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// Some fields of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// In user mode and in the kernel.
    cpu_ticks: u64,
    /// From the boot of the system to the start of the process.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Stat> {
        Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field is the name in parentheses, and may hold blanks and parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system booted, from `/proc/stat`, in seconds since 1970.
fn boot_seconds(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_process_is_called() {
        let text = "71 (a ) b (c) S 1 71 71 0 -1 4194560 9 0 0 0 250 50 7 8 20 0 5 0 4711 1048576 321 \
                    18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n";
        let stat = Stat {
            cpu_ticks: 300,
            start_ticks: 4711,
            virtual_bytes: 1_048_576,
            resident_pages: 321,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        for other in ["", "71 (a) S", "71 (a) S 1 2 x"] {
            assert_eq!(Stat::parse(other), None);
        }
        assert_eq!(boot_seconds("cpu 1 2\nbtime 170\nx 1\n"), Some(170.0));
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }
}
