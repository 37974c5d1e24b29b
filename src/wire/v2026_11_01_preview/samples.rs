//! What nodes used over time, as our own version writes it.

use serde_json::{Map, Value, json};

use crate::domain::sample::{Curves, Point, Series, Spread};
use crate::wire::times::moment;

/// The names of measures, in the order of [`Point::used`], and what their stored numbers are divided by.
pub const MEASURES: [(&str, f64); 8] = [
    ("cores", 1000.0),
    ("memoryInBytes", 1.0),
    ("diskReadBytesPerSecond", 1.0),
    ("diskWrittenBytesPerSecond", 1.0),
    ("networkInBytesPerSecond", 1.0),
    ("networkOutBytesPerSecond", 1.0),
    ("gpuPercent", 10.0),
    ("gpuMemoryInBytes", 1.0),
];

/// Curves in an answer.
pub fn curves(curves: &Curves) -> Value {
    let mut body = json!({
        "from": moment(curves.range.from),
        "to": moment(curves.range.to),
        "stepInSeconds": curves.range.step_s,
        "series": curves.series.iter().map(series).collect::<Vec<_>>(),
    });
    if let (Some(number), Value::Object(members)) = (curves.attempt, &mut body) {
        members.insert("attempt".into(), json!(number));
    }
    body
}

fn series(series: &Series) -> Value {
    let mut body = json!({ "points": series.points.iter().map(point).collect::<Vec<_>>() });
    if let Value::Object(members) = &mut body {
        members.extend(series.node_id.iter().map(|id| ("nodeId".to_owned(), json!(id))));
        members.extend(series.rank.iter().map(|rank| ("rank".to_owned(), json!(rank))));
    }
    body
}

fn point(point: &Point) -> Value {
    let mut body = Map::from_iter([("time".to_owned(), json!(moment(point.at)))]);
    for ((name, unit), spread) in MEASURES.iter().zip(&point.used) {
        if let Some(Spread { mean, max }) = spread {
            body.insert((*name).to_owned(), json!({ "mean": number(*mean, *unit), "max": number(*max, *unit) }));
        }
    }
    Value::Object(body)
}

/// Whole numbers stay whole.
fn number(stored: i64, unit: f64) -> Value {
    #[allow(clippy::cast_precision_loss)] // thousandths of cores and percents are small
    if unit > 1.0 { json!(stored as f64 / unit) } else { json!(stored) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::sample::Range;

    #[test]
    fn a_point_tells_mean_and_most_of_what_could_be_told() {
        let at = Timestamp::from_unix_timestamp(1_700_000_000).expect("a time");
        let mut used = [None; 8];
        used[0] = Some(Spread { mean: 950, max: 1_000 });
        used[1] = Some(Spread { mean: 5, max: 7 });
        let node = Series { node_id: Some("tvm-1".into()), rank: Some(0), points: vec![Point { at, used }] };
        let body = curves(&Curves { attempt: Some(2), range: Range::new(at, at, Some(5), 1), series: vec![node] });
        assert_eq!(
            body,
            json!({
                "attempt": 2, "from": "2023-11-14T22:13:20Z", "to": "2023-11-14T22:13:20Z", "stepInSeconds": 5,
                "series": [{
                    "nodeId": "tvm-1", "rank": 0,
                    "points": [{
                        "time": "2023-11-14T22:13:20Z",
                        "cores": { "mean": 0.95, "max": 1.0 },
                        "memoryInBytes": { "mean": 5, "max": 7 },
                    }],
                }],
            })
        );
    }
}
