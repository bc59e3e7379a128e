//! Text as Java's mqadmin prints it: local times, the order of its hash tables, its indented JSON. Scripts read that text.

use std::fmt::Write;

use serde_json::Value;

/// Local date and time to the millisecond, `2026-01-31 23:59:59,999`. Source: Java 5.3.3: `UtilAll.timeMillisToHumanString2`.
pub(crate) fn local_time(timestamp_ms: i64) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_millisecond(timestamp_ms) else {
        return timestamp_ms.to_string();
    };
    let local = timestamp.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// Local date and time to the second, `2026-01-31 23:59:59`.
pub(crate) fn local_second(timestamp_ms: i64) -> String {
    let text = local_time(timestamp_ms);
    let seconds = text.split(',').next().unwrap_or(&text);
    seconds.to_owned()
}

/// A time given as milliseconds or as `2026-01-31#23:59:59:999` in local time.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if let Ok(timestamp_ms) = text.parse() {
        return Some(timestamp_ms);
    }
    // The milliseconds are cut off by hand: the format has no directive for three digits after a colon.
    let (seconds, millis) = text.rsplit_once(':')?;
    let millis: i64 = millis
        .parse()
        .ok()
        .filter(|millis| (0..1000).contains(millis))?;
    let local = jiff::civil::DateTime::strptime("%Y-%m-%d#%H:%M:%S", seconds).ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(zoned.timestamp().as_millisecond() + millis)
}

/// A floating-point number as Java's `Double.toString` writes those that occur here: always with a fraction.
pub(crate) fn double(value: f64) -> String {
    format!("{value:?}")
}

/// At most the first `length` characters.
pub(crate) fn front(text: &str, length: usize) -> &str {
    text.char_indices()
        .nth(length)
        .map_or(text, |(end, _)| &text[..end])
}

/// Sorts into the order in which a Java hash table of `capacity` buckets at least iterates over these keys.
pub(crate) fn sort_as_java<T>(entries: &mut [T], capacity: usize, key: impl Fn(&T) -> &str) {
    let mut buckets = capacity.max(16).next_power_of_two();
    while entries.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    entries.sort_by_key(|entry| {
        let hash = java_hash(key(entry));
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    });
}

/// Java's `String.hashCode`, over UTF-16 units.
fn java_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| {
        hash.wrapping_mul(31).wrapping_add(u32::from(unit))
    })
}

/// A Java map's text, `{k=v, …}`, for a table created with `capacity` buckets.
pub(crate) fn java_map<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str)>,
    capacity: usize,
) -> String {
    let mut entries: Vec<_> = entries.collect();
    sort_as_java(&mut entries, capacity, |(key, _)| key);
    let entries: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// JSON indented with tabs as fastjson does it. A map with numbers for keys, which JSON does not have, is written on one
/// line without quotes, and its closing brace on the next.
pub(crate) fn fastjson_pretty(value: &Value) -> String {
    let mut out = String::new();
    pretty(value, 0, &mut out);
    out
}

fn pretty(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(map) if map.keys().all(|key| key.parse::<i64>().is_ok()) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                let _ = write!(out, "{comma}{key}:");
                pretty(value, depth + 1, out);
            }
            new_line(depth, out);
            out.push('}');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().filter(|(_, value)| !value.is_null()).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                new_line(depth + 1, out);
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                pretty(value, depth + 1, out);
            }
            new_line(depth, out);
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                new_line(depth + 1, out);
                pretty(item, depth + 1, out);
            }
            new_line(depth, out);
            out.push(']');
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}

fn new_line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n('\t', depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The orders that Java 17 printed for these keys.
    #[test]
    fn maps_print_in_the_order_of_java() {
        let keys = [
            "UNIQ_KEY",
            "CLUSTER",
            "KEYS",
            "TAGS",
            "WAIT",
            "MSG_REGION",
            "TRACE_ON",
            "MIN_OFFSET",
            "MAX_OFFSET",
            "a",
            "b",
            "INSTANCE_ID",
        ];
        let check = |capacity, want: &str| {
            let mut sorted = keys;
            sort_as_java(&mut sorted, capacity, |key| key);
            assert_eq!(sorted.join(" "), want);
        };
        check(
            16,
            "MIN_OFFSET a b TRACE_ON MAX_OFFSET KEYS MSG_REGION UNIQ_KEY CLUSTER WAIT TAGS INSTANCE_ID",
        );
        check(
            128,
            "INSTANCE_ID MSG_REGION UNIQ_KEY CLUSTER MIN_OFFSET TAGS KEYS WAIT a b TRACE_ON MAX_OFFSET",
        );
        assert_eq!(
            java_map([("b", "2"), ("a", "1")].into_iter(), 16),
            "{a=1, b=2}"
        );
    }

    #[test]
    fn json_is_indented_as_fastjson_does_it() {
        let value = serde_json::json!({
            "brokerAddrs": {"0": "127.0.0.1:10911", "1": "127.0.0.1:10921"},
            "empty": {},
            "list": [{"perm": 6}, "a\"b"],
            "absent": null,
        });
        let want = "{\n\t\"brokerAddrs\":{0:\"127.0.0.1:10911\",1:\"127.0.0.1:10921\"\n\t},\n\t\"empty\":{},\n\t\
                    \"list\":[\n\t\t{\n\t\t\t\"perm\":6\n\t\t},\n\t\t\"a\\\"b\"\n\t]\n}";
        assert_eq!(fastjson_pretty(&value), want);
    }

    #[test]
    fn times_survive_the_way_to_text_and_back() {
        let text = local_time(1_795_247_496_405);
        let given = text.replace(' ', "#").replace(',', ":");
        assert_eq!(parse_time(&given), Some(1_795_247_496_405), "{text}");
        assert_eq!(parse_time("1795247496405"), Some(1_795_247_496_405));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("2026-01-31#23:59:59:1000"), None);
    }

    #[test]
    fn small_texts() {
        assert_eq!(
            (double(0.0), double(12.5)),
            ("0.0".to_owned(), "12.5".to_owned())
        );
        assert_eq!((front("中文topic", 3), front("ab", 5)), ("中文t", "ab"));
    }
}
