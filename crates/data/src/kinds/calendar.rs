//! Weekdays and dates of the Gregorian calendar, from 1900 to 2199.

use super::{Draft, Kind};
use crate::random::Random;
use std::fmt;

pub(super) const KIND: Kind = Kind {
    name: "calendar",
    about: "weekdays and differences of dates",
    levels: &[
        "the weekday some days after or before a weekday",
        "days between two dates of one year",
        "the weekday of a date, given that of another in the same year",
        "the date some days after or before a date",
        "days between two dates of different years",
        "the weekday of any date from 1900 to 2199",
    ],
    chance: "1 in 7 for a weekday; the commonest number or date is right in less than 1%",
    draw,
};

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

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

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

/// The months from 1.
fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Displayed as `2024-02-29`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Date {
    fn random(years: std::ops::RangeInclusive<i64>, random: &mut Random) -> Self {
        let (year, month) = (random.within(years), random.within(1..=12));
        Self { year, month, day: random.within(1..=days_in_month(year, month)) }
    }

    /// 1 for January 1.
    fn day_of_year(self) -> i64 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<i64>() + self.day
    }

    /// Days since December 31, 1899, a Sunday.
    fn number(self) -> i64 {
        (1900..self.year).map(days_in_year).sum::<i64>() + self.day_of_year()
    }

    fn weekday(self) -> usize {
        ((self.number() + 6) % 7) as usize
    }

    /// `31 + 28 + 5 = 64`: the line that counts the day in its year.
    fn count(self) -> String {
        let months = (1..self.month).map(|month| days_in_month(self.year, month).to_string());
        let terms: Vec<_> = months.chain([self.day.to_string()]).collect();
        let sum = terms.join(" + ");
        let total = if terms.len() == 1 { String::new() } else { format!(" = {}", self.day_of_year()) };
        format!("{self} is day {sum}{total} of {}.", self.year)
    }

    /// In words: `March 5, 2024`.
    fn text(self) -> String {
        format!("{} {}, {}", MONTHS[self.month as usize - 1], self.day, self.year)
    }
}

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    match level {
        1 => Some(weekday_after(random)),
        2 => days_between(0, random),
        3 => weekday_from_another(random),
        4 => Some(date_after(random)),
        5 => days_between(30, random),
        _ => Some(weekday_of(random)),
    }
}

/// The weekday `days` after `start`, with the step that finds it.
fn shifted(start: usize, days: i64) -> (usize, String) {
    let end = (start as i64 + days).rem_euclid(7) as usize;
    let (direction, count) = if days < 0 { ("before", -days) } else { ("after", days) };
    let step = format!(
        "{count} = {} * 7 + {}, and {} days {direction} {} is {}.",
        count / 7,
        count % 7,
        count % 7,
        WEEKDAYS[start],
        WEEKDAYS[end]
    );
    (end, step)
}

fn weekday_after(random: &mut Random) -> Draft {
    let (start, days) = (random.below(7), random.signed(500));
    let (end, step) = shifted(start, days);
    let (name, count) = (WEEKDAYS[start], days.abs());
    let key = format!("{name} {days}");
    let question = match (random.below(2), days > 0) {
        (0, true) => format!("Today is {name}. Which weekday is it in {count} days?"),
        (0, false) => format!("Today is {name}. Which weekday was it {count} days ago?"),
        (_, true) => format!("Which weekday is {count} days after a {name}?"),
        (_, false) => format!("Which weekday is {count} days before a {name}?"),
    };
    weekday_draft(key, question, end, vec![step])
}

fn weekday_draft(key: String, question: String, weekday: usize, steps: Vec<String>) -> Draft {
    let question = format!("{question} Answer with the name of the weekday.");
    let answer = WEEKDAYS[weekday].to_owned();
    Draft { key, question, answer, reward: "words", steps, ..Draft::default() }
}

fn days_between(most_years: i64, random: &mut Random) -> Option<Draft> {
    let start = Date::random(1900..=2199 - most_years, random);
    let years = if most_years == 0 { 0 } else { random.within(1..=most_years) };
    let end = Date::random(start.year + years..=start.year + years, random);
    if start >= end {
        return None;
    }
    let days = end.number() - start.number();
    let mut steps = vec![start.count(), end.count()];
    if years == 0 {
        steps.push(format!("{} - {} = {days}", end.day_of_year(), start.day_of_year()));
    } else {
        let left = days_in_year(start.year) - start.day_of_year();
        steps.push(format!(
            "{left} days are left of {}: {} - {} = {left}",
            start.year,
            days_in_year(start.year),
            start.day_of_year()
        ));
        let between: i64 = (start.year + 1..end.year).map(days_in_year).sum();
        let leap = (start.year + 1..end.year).filter(|&year| is_leap(year)).count();
        let n = years - 1;
        if n == 0 {
            steps.push(format!("{left} + {} = {days}", end.day_of_year()));
        } else {
            steps.push(format!(
                "Between lie {n} years with {leap} leap days: {n} * 365 + {leap} = {between} days"
            ));
            steps.push(format!("{left} + {between} + {} = {days}", end.day_of_year()));
        }
    }
    let question = match random.below(2) {
        0 => format!("How many days after {start} is {end}?"),
        _ => format!(
            "How many days are there from {} to {}, counting the last day but not the first?",
            start.text(),
            end.text()
        ),
    };
    Some(Draft {
        key: format!("{start} {end}"),
        question: format!("{question} Answer with a whole number."),
        answer: days.to_string(),
        reward: "number",
        steps,
        ..Draft::default()
    })
}

fn weekday_from_another(random: &mut Random) -> Option<Draft> {
    let known = Date::random(1900..=2199, random);
    let asked = Date::random(known.year..=known.year, random);
    if known == asked {
        return None;
    }
    let days = asked.number() - known.number();
    let (end, step) = shifted(known.weekday(), days);
    let (late, early) =
        (known.day_of_year().max(asked.day_of_year()), known.day_of_year().min(asked.day_of_year()));
    let steps = vec![known.count(), asked.count(), format!("{late} - {early} = {}", days.abs()), step];
    let name = WEEKDAYS[known.weekday()];
    let question = match random.below(2) {
        0 => format!("{} is a {name}. Which weekday is {}?", known.text(), asked.text()),
        _ => format!("If {known} falls on a {name}, on which weekday does {asked} fall?"),
    };
    Some(weekday_draft(format!("{known} {asked}"), question, end, steps))
}

fn date_after(random: &mut Random) -> Draft {
    let start = Date::random(1902..=2197, random);
    let days = random.signed(400);
    let mut steps = Vec::new();
    let (mut date, mut left) = (start, days);
    loop {
        let length = days_in_month(date.year, date.month);
        let day = date.day + left;
        if (1..=length).contains(&day) {
            let sign = if left < 0 { '-' } else { '+' };
            steps.push(format!("{} {sign} {} = {day}: {}", date.day, left.abs(), Date { day, ..date }));
            date.day = day;
            break;
        }
        // to the last day of the month before, or the first of the next
        if left > 0 {
            let (year, month) =
                if date.month == 12 { (date.year + 1, 1) } else { (date.year, date.month + 1) };
            let next = Date { year, month, day: 1 };
            let used = length - date.day + 1;
            left -= used;
            steps.push(format!("{date} + {used} days is {next}, {left} days left"));
            date = next;
        } else {
            let (year, month) =
                if date.month == 1 { (date.year - 1, 12) } else { (date.year, date.month - 1) };
            let next = Date { year, month, day: days_in_month(year, month) };
            left += date.day;
            steps.push(format!("{date} - {} days is {next}, {} days left", date.day, -left));
            date = next;
        }
    }
    let (direction, count) = if days < 0 { ("before", -days) } else { ("after", days) };
    let question = match random.below(2) {
        0 => format!("What is the date {count} days {direction} {start}?"),
        _ => format!("Which day is {count} days {direction} {}?", start.text()),
    };
    Draft {
        key: format!("{start} {days}"),
        question: format!("{question} Answer with the date as YYYY-MM-DD."),
        answer: date.to_string(),
        reward: "words",
        steps,
        ..Draft::default()
    }
}

fn weekday_of(random: &mut Random) -> Draft {
    let date = Date::random(1900..=2199, random);
    let (years, leap) = (date.year - 1900, (1900..date.year).filter(|&year| is_leap(year)).count() as i64);
    let days = date.number();
    let steps = vec![
        "December 31, 1899 was a Sunday.".to_owned(),
        format!("The {years} years from 1900 on have {years} * 365 + {leap} = {} days.", years * 365 + leap),
        date.count(),
        format!("{} + {} = {days}", years * 365 + leap, date.day_of_year()),
        shifted(6, days).1,
    ];
    let question = match random.below(2) {
        0 => format!("Which weekday is {}?", date.text()),
        _ => format!("On which weekday does {date} fall?"),
    };
    weekday_draft(format!("weekday {date}"), question, date.weekday(), steps)
}
