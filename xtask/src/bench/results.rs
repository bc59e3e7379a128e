//! The runs of a table, and medians over them.

use bench::Report;

use super::servers::Side;

/// Every run, by workload and server.
#[derive(Default)]
pub(super) struct Results {
    clean: Vec<(&'static str, Side, Report)>,
    failed: Vec<(&'static str, Side)>,
    repeated: Vec<(&'static str, Side)>,
}

impl Results {
    pub(super) fn add(&mut self, spec: &'static str, side: Side, report: Report) {
        self.clean.push((spec, side, report));
    }

    /// A run that broke, or lost, repeated or refused messages: it counts for nothing but this.
    pub(super) fn add_failure(&mut self, spec: &'static str, side: Side) {
        self.failed.push((spec, side));
    }

    /// A run that broke and was made again.
    pub(super) fn add_repeat(&mut self, spec: &'static str, side: Side) {
        self.repeated.push((spec, side));
    }

    pub(super) fn failures(&self, side: Side) -> usize {
        self.failed.iter().filter(|(_, of)| *of == side).count()
    }

    /// Runs of a line that failed for good, and those that were made again.
    pub(super) fn troubles_of(&self, spec: &str, side: Side) -> (usize, usize) {
        let count = |runs: &[(&str, Side)]| {
            let of_line = runs.iter().filter(|run| **run == (spec, side));
            of_line.count()
        };
        (count(&self.failed), count(&self.repeated))
    }

    pub(super) fn runs(&self, spec: &str, side: Side) -> Vec<&Report> {
        let matching = self
            .clean
            .iter()
            .filter(|(name, of, _)| *name == spec && *of == side);
        matching.map(|(_, _, report)| report).collect()
    }

    pub(super) fn of_side(&self, side: Side) -> impl Iterator<Item = &Report> {
        let matching = self.clean.iter().filter(move |(_, of, _)| *of == side);
        matching.map(|(_, _, report)| report)
    }

    /// `None` where the workload was not run on that server.
    pub(super) fn median(
        &self,
        spec: &str,
        side: Side,
        figure: impl Fn(&Report) -> f64,
    ) -> Option<f64> {
        median(self.runs(spec, side).into_iter().map(figure).collect())
    }

    /// The lowest and the highest.
    pub(super) fn spread(
        &self,
        spec: &str,
        side: Side,
        figure: impl Fn(&Report) -> f64,
    ) -> Option<(f64, f64)> {
        let values = self.runs(spec, side).into_iter().map(figure);
        values.fold(None, |spread, value| {
            let (low, high) = spread.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
    }

    /// Percentile curve: the median of the runs at each point.
    pub(super) fn curve(&self, spec: &str, side: Side) -> Vec<(f64, f64)> {
        let runs = self.runs(spec, side);
        let Some(first) = runs.first() else {
            return Vec::new();
        };
        let points = first.latency.curve.iter().enumerate();
        points
            .filter_map(|(index, (quantile, _))| {
                let at = runs.iter().map(|run| run.latency.curve[index].1);
                Some((*quantile, median(at.collect())?))
            })
            .collect()
    }
}

/// Messages per second of the broker's own CPU: the sturdiest figure.
pub(super) fn per_cpu(report: &Report) -> f64 {
    let broker = report.broker.as_ref();
    broker.map_or(0.0, |broker| broker.messages_per_cpu_second)
}

/// Between the two in the middle where there are two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
