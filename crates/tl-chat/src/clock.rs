//! The date and time for templates, given by the caller: this crate reads no clock.

/// A point in time on the calendar, without a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    /// Days since 1970-01-01.
    days: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl DateTime {
    /// The time `seconds` after 1970-01-01 00:00:00; add a zone's offset to `seconds` for its local time. Years are
    /// clamped to 0 to 9999.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        // 0000-01-01 and 9999-12-31T23:59:59.
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400) as u32;
        // Years begin in March here, so that the day of a leap year is the last of its year. Eras of 400 years repeat.
        let from_march_of_0 = days + 719_468;
        let era = from_march_of_0.div_euclid(146_097);
        let day_of_era = from_march_of_0.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        let year = (year_of_era + era * 400 + i64::from(month <= 2)) as i32;
        Self { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, days }
    }

    fn weekday(&self) -> usize {
        // 1970-01-01 was a Thursday.
        (self.days + 4).rem_euclid(7) as usize
    }

    fn day_of_year(&self) -> u32 {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        before[self.month as usize - 1] + self.day + u32::from(is_leap && self.month > 2)
    }

    /// Formats as `strftime` does, in the C locale.
    ///
    /// # Errors
    ///
    /// The unknown directive.
    pub(crate) fn format(&self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let (padded, directive) = match characters.next() {
                Some('-') => (false, characters.next()),
                other => (true, other),
            };
            let number = |value: u32, width: usize| {
                if padded { format!("{value:0width$}") } else { value.to_string() }
            };
            let month = MONTHS[self.month as usize - 1];
            let weekday = WEEKDAYS[self.weekday()];
            let hour12 = (self.hour + 11) % 12 + 1;
            let text = match directive {
                Some('Y') => self.year.to_string(),
                Some('y') => number(self.year as u32 % 100, 2),
                Some('m') => number(self.month, 2),
                Some('d') => number(self.day, 2),
                Some('e') => format!("{:2}", self.day),
                Some('H') => number(self.hour, 2),
                Some('I') => number(hour12, 2),
                Some('M') => number(self.minute, 2),
                Some('S') => number(self.second, 2),
                Some('f') => "000000".to_owned(),
                Some('j') => number(self.day_of_year(), 3),
                Some('p') => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
                Some('B') => month.to_owned(),
                Some('b' | 'h') => month[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('w') => self.weekday().to_string(),
                Some('u') => ((self.weekday() + 6) % 7 + 1).to_string(),
                Some('F') => self.format("%Y-%m-%d")?,
                Some('T' | 'X') => self.format("%H:%M:%S")?,
                Some('R') => self.format("%H:%M")?,
                Some('D' | 'x') => self.format("%m/%d/%y")?,
                Some('c') => self.format("%a %b %e %H:%M:%S %Y")?,
                Some('z' | 'Z') => String::new(),
                Some('n') => "\n".to_owned(),
                Some('t') => "\t".to_owned(),
                Some('%') => "%".to_owned(),
                Some(other) => return Err(format!("%{other}")),
                None => return Err("%".to_owned()),
            };
            out.push_str(&text);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_strftime_does() {
        for (seconds, format, expected) in [
            (0, "%Y-%m-%d %H:%M:%S %A %j", "1970-01-01 00:00:00 Thursday 001"),
            (951_782_400, "%d %b %Y %a %w %u %j", "29 Feb 2000 Tue 2 2 060"),
            (1_796_040_000, "%B %-d, %Y", "November 30, 2026"),
            (1_735_689_599, "%F %T %I %p %j %y %D", "2024-12-31 23:59:59 11 PM 366 24 12/31/24"),
            (-1, "%c", "Wed Dec 31 23:59:59 1969"),
            (4_107_542_400, "%F %a%%", "2100-03-01 Mon%"),
            (i64::MAX, "%F", "9999-12-31"),
            (i64::MIN, "%Y", "0"),
        ] {
            assert_eq!(DateTime::from_unix_seconds(seconds).format(format).as_deref(), Ok(expected), "{format}");
        }
        assert_eq!(DateTime::from_unix_seconds(0).format("a%Q"), Err("%Q".to_owned()));
        assert_eq!(DateTime::from_unix_seconds(0).format("100%"), Err("%".to_owned()));
    }
}
