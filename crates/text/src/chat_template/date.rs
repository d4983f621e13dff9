//! The date a template may print: `strftime_now`.
//!
//! It never reads a clock; the caller says what time it is, so a rendering can be repeated.

use std::fmt::Write as _;

use minijinja::{Error, ErrorKind};

/// A local date and time on the Gregorian calendar, from the year 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
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
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl DateTime {
    /// Whether every field is in its range and the month has that day.
    pub fn is_valid(&self) -> bool {
        (1..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && self.day >= 1
            && u16::from(self.day) <= days_in_month(self.year, self.month)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    /// 0 is Monday.
    fn weekday(&self) -> usize {
        let years = usize::from(self.year) - 1;
        let days = years * 365 + years / 4 - years / 100 + years / 400 + usize::from(self.day_of_year()) - 1;
        days % 7
    }

    fn day_of_year(&self) -> u16 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<u16>() + u16::from(self.day)
    }

    /// `strftime` with the directives of C in the C locale that chat templates use; `%-d` drops a leading zero.
    pub(super) fn format(&self, format: &str) -> Result<String, Error> {
        let mut output = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                output.push(character);
                continue;
            }
            let mut directive = characters.next();
            let padded = directive != Some('-');
            if !padded {
                directive = characters.next();
            }
            self.directive(directive, padded, &mut output)?;
        }
        Ok(output)
    }

    fn directive(&self, directive: Option<char>, padded: bool, output: &mut String) -> Result<(), Error> {
        let month = MONTHS[usize::from(self.month) - 1];
        let weekday = WEEKDAYS[self.weekday()];
        let hour12 = if self.hour.is_multiple_of(12) { 12 } else { self.hour % 12 };
        let (number, width) = match directive {
            Some('Y') => (self.year, 4),
            Some('y') => (self.year % 100, 2),
            Some('m') => (u16::from(self.month), 2),
            Some('d') => (u16::from(self.day), 2),
            Some('H') => (u16::from(self.hour), 2),
            Some('I') => (u16::from(hour12), 2),
            Some('M') => (u16::from(self.minute), 2),
            Some('S') => (u16::from(self.second), 2),
            Some('j') => (self.day_of_year(), 3),
            Some('e') => return push(output, format_args!("{:>2}", self.day)),
            Some('B') => return push(output, format_args!("{month}")),
            Some('b' | 'h') => return push(output, format_args!("{}", &month[..3])),
            Some('A') => return push(output, format_args!("{weekday}")),
            Some('a') => return push(output, format_args!("{}", &weekday[..3])),
            Some('p') => return push(output, format_args!("{}", if self.hour < 12 { "AM" } else { "PM" })),
            Some('F') => return push(output, format_args!("{:04}-{:02}-{:02}", self.year, self.month, self.day)),
            Some('T') => return push(output, format_args!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)),
            Some('%') => return push(output, format_args!("%")),
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: the directive %{other} is not supported"),
                ));
            }
            None => return Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: the format ends in %")),
        };
        let width = if padded { width } else { 0 };
        push(output, format_args!("{number:0width$}"))
    }
}

fn push(output: &mut String, text: std::fmt::Arguments<'_>) -> Result<(), Error> {
    Ok(output.write_fmt(text)?)
}

fn days_in_month(year: u16, month: u8) -> u16 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::DateTime;

    #[test]
    fn formats_as_c_does() {
        let date = DateTime { year: 2024, month: 7, day: 6, hour: 0, minute: 5, second: 9 };
        assert_eq!(
            date.format("%d %b %Y, %A %-d %B %y %j %I:%M:%S %p %F %T %%").unwrap(),
            "06 Jul 2024, Saturday 6 July 24 188 12:05:09 AM 2024-07-06 00:05:09 %"
        );
        let leap = DateTime { year: 2000, month: 2, day: 29, hour: 23, minute: 0, second: 0 };
        assert_eq!(leap.format("%a %H %e").unwrap(), "Tue 23 29");
        assert!(leap.is_valid());
        assert!(!DateTime { year: 1900, ..leap }.is_valid());
        assert!(date.format("%Q").is_err() && date.format("%").is_err());
    }
}
