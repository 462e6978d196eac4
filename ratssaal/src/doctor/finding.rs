//! What a check says, and how it is printed: one line, what is wrong and what to do.

use std::io::{self, Write};

/// All checks in their order; those not reached are printed as skipped.
const ALL: [&str; 7] = ["name", "certificate", "http", "token", "websocket", "udp", "seats"];

/// A check that found nothing wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    what: String,
    /// Nothing is broken yet, but will be.
    warning: Option<String>,
}

impl Finding {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), warning: None }
    }

    /// Adds what will go wrong, and what to do before it does.
    pub(super) fn but(self, warning: impl Into<String>) -> Self {
        Self { warning: Some(warning.into()), ..self }
    }
}

/// A check that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) advice: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// Others' text for a line of ours: without control characters, and not endless.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(most).collect()
}

/// Prints what the checks say as they come.
pub(super) struct Checks<W> {
    out: W,
    noted: usize,
    bad: usize,
}

impl<W: Write> Checks<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, noted: 0, bad: 0 }
    }

    /// How many failed.
    pub(super) fn bad(&self) -> usize {
        self.bad
    }

    /// Prints a check; whether it was good.
    pub(super) fn note(&mut self, name: &str, result: Result<Finding, Problem>) -> io::Result<bool> {
        self.noted += 1;
        match result {
            Ok(Finding { what, warning: None }) => writeln!(self.out, "{name:<12} ok    {what}")?,
            Ok(Finding { what, warning: Some(warning) }) => writeln!(self.out, "{name:<12} WARN  {what}; {warning}")?,
            Err(Problem { what, advice }) => {
                self.bad += 1;
                writeln!(self.out, "{name:<12} BAD   {what}; {advice}")?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says which checks could not be made.
    pub(super) fn skip_rest(&mut self) -> anyhow::Result<()> {
        for name in ALL.iter().skip(self.noted) {
            writeln!(self.out, "{name:<12} –     not checked, see above")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_one_line_and_the_rest_is_named() {
        let mut checks = Checks::new(Vec::new());
        assert!(checks.note("name", Ok(Finding::new("a.example is 192.0.2.1"))).unwrap());
        assert!(checks.note("certificate", Ok(Finding::new("valid").but("renew it"))).unwrap());
        assert!(!checks.note("http", Err(Problem::new("nothing answers", "start it"))).unwrap());
        checks.skip_rest().unwrap();
        assert_eq!(checks.bad(), 1);
        let lines = String::from_utf8(checks.out).unwrap();
        let expected = [
            "name         ok    a.example is 192.0.2.1",
            "certificate  WARN  valid; renew it",
            "http         BAD   nothing answers; start it",
            "token        –     not checked, see above",
            "websocket    –     not checked, see above",
            "udp          –     not checked, see above",
            "seats        –     not checked, see above",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn foreign_text_cannot_write_lines_of_its_own() {
        assert_eq!(plain(" a\nseats ok\x1b[2J ", 12), "aseats ok[2J");
        assert_eq!(plain("abcdef", 3), "abc");
    }
}
