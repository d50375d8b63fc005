//! The story for a terminal.

use super::super::output::{lines, span, table};
use super::story::{Kind, Row, Story};
use super::words::short;

/// Violations that the table tells; one cause often has many.
const VIOLATIONS_TOLD_MAX: usize = 12;

/// Which rows to show.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only operations on this account (faults and leaders stay).
    #[arg(long)]
    account: Option<String>,
    /// Only operations that speak of this session; the beginning of its id is enough.
    #[arg(long)]
    session: Option<String>,
    /// Nothing before that, in seconds of simulated time.
    #[arg(long, value_name = "S")]
    from: Option<f64>,
    /// Nothing after that, in seconds of simulated time.
    #[arg(long, value_name = "S")]
    to: Option<f64>,
    /// Only what clients did and were told, no faults, no leaders.
    #[arg(long)]
    clients_only: bool,
    /// Most rows to show, 0 for all. What is left out lies before the first violation, or else at the end.
    #[arg(long, value_name = "N", default_value_t = 400)]
    limit: usize,
}

impl Filter {
    /// The rows to show, and how many that pass are left out by the limit.
    pub fn choose<'s>(&self, story: &'s Story) -> (Vec<&'s Row>, usize) {
        let rows: Vec<&Row> = story.rows.iter().filter(|row| self.passes(row)).collect();
        if self.limit == 0 || rows.len() <= self.limit {
            return (rows, 0);
        }
        let left_out = rows.len() - self.limit;
        // The last row that proves the first violation is to stand at nine tenths of what is shown.
        let first = story.violations.iter().filter_map(|violation| violation.at_us).min();
        let shown_from = first.map_or(0, |at_us| {
            let proof = rows.partition_point(|row| row.at_us <= at_us);
            proof.saturating_sub(self.limit * 9 / 10).min(left_out)
        });
        (rows[shown_from..shown_from + self.limit].to_vec(), left_out)
    }

    fn passes(&self, row: &Row) -> bool {
        let seconds = row.at_us as f64 / 1e6;
        let in_time = self.from.is_none_or(|from| seconds >= from) && self.to.is_none_or(|to| seconds <= to);
        if row.kind != Kind::Operation {
            return in_time && !self.clients_only;
        }
        let of_account = self.account.as_ref().is_none_or(|account| row.account.as_ref() == Some(account));
        let of_session =
            self.session.as_ref().is_none_or(|session| row.sessions.iter().any(|id| id.starts_with(session.as_str())));
        in_time && of_account && of_session
    }
}

/// Violations, then the rows. A row that helps to prove violation 2 begins with `!2`.
pub fn text(story: &Story, rows: &[&Row], left_out: usize) -> String {
    let mut text = String::new();
    for (index, violation) in story.violations.iter().enumerate().take(VIOLATIONS_TOLD_MAX) {
        let at = violation.at_us.map(|us| format!(" at {:.6} s", us as f64 / 1e6)).unwrap_or_default();
        text.push_str(&format!("!{} {}{at}: {}\n", index + 1, violation.rule, violation.detail));
    }
    let more = story.violations.len().saturating_sub(VIOLATIONS_TOLD_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more, later ones (--output json has them)\n"));
    }
    if !story.violations.is_empty() {
        text.push('\n');
    }
    let mut table = table(&["", ">time s", "who", "what", "account", "about", "outcome", ">took ms", "answer"]);
    for row in rows {
        let marks: Vec<_> = row.proves.iter().map(|index| format!("!{}", index + 1)).collect();
        let took = row.done_us.map(|done| format!("{:.1}", done.saturating_sub(row.at_us) as f64 / 1e3));
        let sign = if row.kind == Kind::Operation { row.what.clone() } else { format!("· {}", row.what) };
        table.add_row([
            marks.join(" "),
            format!("{:.6}", row.at_us as f64 / 1e6),
            row.who.clone(),
            sign,
            short(row.account.as_deref().unwrap_or_default()).to_owned(),
            row.about.clone(),
            if row.outcome == "ok" { String::new() } else { row.outcome.clone() },
            took.unwrap_or_default(),
            row.answer.clone(),
        ]);
    }
    text.push_str(&lines(&table));
    if left_out > 0 {
        text.push_str(&format!(
            "\n{left_out} rows are not shown (--limit 0 shows all; --account, --session, --from, --to choose)\n"
        ));
    }
    let verdict = match story.violations.len() {
        0 => "no violation".to_owned(),
        1 => "1 violation".to_owned(),
        more => format!("{more} violations"),
    };
    text.push_str(&format!("\n{} rows, {}, {verdict}\n", story.rows.len(), span(story.end_us / 1000)));
    text
}
