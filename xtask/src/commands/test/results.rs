//! Reads what a test run printed: how many passed, and the lines that tell why others did not.

/// Tests of one or more test binaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl Counts {
    /// Adds up the closing lines of all test binaries: `test result: ok. 14 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn read(lines: &[String]) -> Self {
        lines.iter().filter_map(|line| line.strip_prefix("test result: ")).fold(Self::default(), |sum, line| {
            let count = |word: &str| {
                let part = line.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(word));
                part.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or_default()
            };
            Self {
                passed: sum.passed + count("passed"),
                failed: sum.failed + count("failed"),
                ignored: sum.ignored + count("ignored"),
            }
        })
    }
}

/// The lines that say what failed: from the first complaint on where there is one, else the end.
pub(crate) fn telling(lines: &[String], most: usize) -> &[String] {
    let complaint = |line: &String| {
        ["---- ", "error", "warning: ", "Diff in "].iter().any(|begin| line.starts_with(begin))
            || line.contains("panicked at")
    };
    let begin = lines.iter().position(complaint).unwrap_or_else(|| lines.len().saturating_sub(most));
    &lines[begin..lines.len().min(begin + most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn results_of_several_binaries_add_up() {
        let printed = lines(
            "running 2 tests\ntest a ... ok\n\
             test result: ok. 14 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.14s\n\
             test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n\
             note: test result: ok. 99 passed;",
        );
        assert_eq!(Counts::read(&printed), Counts { passed: 26, failed: 2, ignored: 1 });
        assert_eq!(Counts::read(&[]), Counts::default());
    }

    #[test]
    fn what_is_shown_begins_where_it_went_wrong() {
        let printed = lines("Compiling a\ntest x ... FAILED\n---- x stdout ----\nwhy\nmore");
        assert_eq!(telling(&printed, 2), &printed[2..4]);
        let quiet = lines("one\ntwo\nthree");
        assert_eq!(telling(&quiet, 2), &quiet[1..]);
        assert_eq!(telling(&[], 2), &[] as &[String]);
    }
}
