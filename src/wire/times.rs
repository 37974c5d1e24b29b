//! How the wire writes moments.

use crate::clock::Timestamp;

/// UTC with up to three decimals, trailing zeros trimmed: `2018-06-06T21:06:02.35Z`, `2018-06-14T03:48:58Z`.
///
/// Source: recorded 2018-05-01 answers.
pub fn moment(at: Timestamp) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let mut text = whole(at);
    let millisecond = at.millisecond();
    if millisecond > 0 {
        text.pop();
        text.push('.');
        text.push_str(format!("{millisecond:03}").trim_end_matches('0'));
        text.push('Z');
    }
    text
}

/// UTC in whole seconds: `2018-06-07T00:55:05Z`.
///
/// Source: recorded `lastModified` of files.
pub fn whole(at: Timestamp) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// UTC with seven decimals, as the platform's own lists write moments: `2018-06-07T00:55:05.1230000Z`.
pub fn precise(at: Timestamp) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{}.{:07}Z", whole(at).trim_end_matches('Z'), at.nanosecond() / 100)
}

/// UTC without punctuation, as routing ids carry it: `20180620T205228Z`.
pub fn compact(at: Timestamp) -> String {
    whole(at).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn decimals_are_trimmed() {
        assert_eq!(moment(datetime!(2018-06-06 21:06:02.350 UTC)), "2018-06-06T21:06:02.35Z");
        assert_eq!(moment(datetime!(2018-06-07 22:08:34.8 UTC)), "2018-06-07T22:08:34.8Z");
        assert_eq!(moment(datetime!(2018-06-07 22:08:34.005 UTC)), "2018-06-07T22:08:34.005Z");
        assert_eq!(moment(datetime!(2018-06-14 03:48:58 UTC)), "2018-06-14T03:48:58Z");
        assert_eq!(moment(datetime!(2018-06-14 05:48:58.1 +2)), "2018-06-14T03:48:58.1Z");
        assert_eq!(compact(datetime!(2018-06-20 20:52:28 UTC)), "20180620T205228Z");
    }
}
