//! The settings of pull consumers as the server's own JSON, and what it says about a consumer.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::stream_config::{duration, limit, strings};
use crate::time::{UnixTime, nanos};
use crate::transport::{AckPolicy, ConsumerConfig, ConsumerInfo, Position, ReadStart, Sequence};

/// The request that creates it.
pub(super) fn request(stream: &str, config: &ConsumerConfig) -> Value {
    json!({ "stream_name": stream, "config": settings(config) })
}

fn settings(config: &ConsumerConfig) -> Value {
    let mut settings = json!({
        "name": config.name,
        "ack_policy": match config.ack_policy {
            AckPolicy::Explicit => "explicit",
            AckPolicy::All => "all",
            AckPolicy::None => "none",
        },
        "ack_wait": nanos(config.ack_wait),
        "max_deliver": config.max_deliver.map_or(-1, |max| i64::from(max.get())),
        "max_ack_pending": config.max_ack_pending,
        "max_waiting": config.max_waiting,
        "mem_storage": config.memory_storage,
        "num_replicas": config.replicas,
        "replay_policy": "instant",
    });
    if config.durable {
        settings["durable_name"] = json!(config.name);
    }
    match &*config.filters {
        [] => {}
        [one] => settings["filter_subject"] = json!(one),
        several => settings["filter_subjects"] = json!(several),
    }
    if !config.backoff.is_empty() {
        let waits: Vec<u64> = config.backoff.iter().copied().map(nanos).collect();
        settings["backoff"] = json!(waits);
    }
    if let Some(threshold) = config.inactive_threshold {
        settings["inactive_threshold"] = nanos(threshold).into();
    }
    start_out(config.start, &mut settings);
    settings
}

/// Where a consumer begins, in its settings.
pub(super) fn start_out(start: ReadStart, settings: &mut Value) {
    settings["deliver_policy"] = match start {
        ReadStart::All => "all".into(),
        ReadStart::New => "new".into(),
        ReadStart::Last => "last".into(),
        ReadStart::LastPerSubject => "last_per_subject".into(),
        ReadStart::Sequence(sequence) => {
            settings["opt_start_seq"] = sequence.0.into();
            "by_start_sequence".into()
        }
        ReadStart::Time(time) => {
            settings["opt_start_time"] = json!(time);
            "by_start_time".into()
        }
    };
}

fn start_in(settings: &Value) -> Option<ReadStart> {
    Some(match settings["deliver_policy"].as_str()? {
        "new" => ReadStart::New,
        "last" => ReadStart::Last,
        "last_per_subject" => ReadStart::LastPerSubject,
        "by_start_sequence" => ReadStart::Sequence(Sequence(settings["opt_start_seq"].as_u64()?)),
        "by_start_time" => {
            let time = settings["opt_start_time"].as_str()?;
            ReadStart::Time(UnixTime::parse_rfc3339(time).ok()?)
        }
        _ => ReadStart::All,
    })
}

fn read(settings: &Value) -> Option<ConsumerConfig> {
    let list = |name: &str| settings[name].as_array().map(Vec::as_slice);
    let filters = match settings["filter_subject"].as_str() {
        Some(one) if !one.is_empty() => vec![one.to_owned()],
        _ => strings(list("filter_subjects").unwrap_or_default()),
    };
    let backoff = list("backoff").unwrap_or_default();
    let durable = settings["durable_name"].as_str();
    Some(ConsumerConfig {
        name: settings["name"].as_str().or(durable)?.to_owned(),
        durable: durable.is_some(),
        filters,
        start: start_in(settings)?,
        ack_policy: match settings["ack_policy"].as_str()? {
            "all" => AckPolicy::All,
            "none" => AckPolicy::None,
            _ => AckPolicy::Explicit,
        },
        ack_wait: duration(settings, "ack_wait"),
        backoff: backoff
            .iter()
            .filter_map(Value::as_u64)
            .map(Duration::from_nanos)
            .collect(),
        max_deliver: u32::try_from(limit(settings, "max_deliver"))
            .ok()
            .and_then(NonZeroU32::new),
        max_ack_pending: limit(settings, "max_ack_pending"),
        max_waiting: limit(settings, "max_waiting"),
        inactive_threshold: Some(duration(settings, "inactive_threshold"))
            .filter(|threshold| !threshold.is_zero()),
        memory_storage: settings["mem_storage"].as_bool().unwrap_or(false),
        replicas: u8::try_from(settings["num_replicas"].as_u64().unwrap_or(0)).unwrap_or(u8::MAX),
    })
}

/// What the server says about a consumer. `None` if it says it in a way not understood.
pub(super) fn read_info(info: &Value) -> Option<ConsumerInfo> {
    let position = |name: &str| {
        Some(Position {
            consumer: info[name]["consumer_seq"].as_u64()?,
            stream: Sequence(info[name]["stream_seq"].as_u64()?),
        })
    };
    Some(ConsumerInfo {
        config: read(info.get("config")?)?,
        delivered: position("delivered")?,
        ack_floor: position("ack_floor")?,
        ack_pending: info["num_ack_pending"].as_u64()?,
        redelivered: info["num_redelivered"].as_u64()?,
        waiting: info["num_waiting"].as_u64()?,
        pending: info["num_pending"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_comes_back_as_it_went() {
        let mut config = ConsumerConfig::durable("c");
        assert_eq!(read(&settings(&config)), Some(config.clone()));
        config.durable = false;
        config.filters = vec!["a".to_owned()];
        config.ack_policy = AckPolicy::All;
        config.ack_wait = Duration::from_millis(200);
        config.backoff = vec![Duration::from_millis(200), Duration::from_secs(1)];
        config.max_deliver = NonZeroU32::new(4);
        config.max_ack_pending = -1;
        config.max_waiting = 7;
        config.inactive_threshold = Some(Duration::from_secs(9));
        config.memory_storage = true;
        config.replicas = 3;
        let starts = [
            ReadStart::All,
            ReadStart::New,
            ReadStart::Last,
            ReadStart::LastPerSubject,
            ReadStart::Sequence(Sequence(8)),
            ReadStart::Time(UnixTime::from_nanos(1_700_000_000_123_456_789)),
        ];
        for start in starts {
            config.start = start;
            config.filters.push("b.>".to_owned());
            assert_eq!(read(&settings(&config)), Some(config.clone()));
        }
    }
}
