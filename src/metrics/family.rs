//! Metric families built at a scrape from numbers kept elsewhere.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// A metric family being filled.
pub(super) struct FamilyBuilder {
    family: MetricFamily,
    kind: MetricType,
}

impl FamilyBuilder {
    fn new(name: &str, help: &str, kind: MetricType) -> FamilyBuilder {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        FamilyBuilder { family, kind }
    }

    pub(super) fn counter(name: &str, help: &str) -> FamilyBuilder {
        FamilyBuilder::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> FamilyBuilder {
        FamilyBuilder::new(name, help, MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str) -> FamilyBuilder {
        FamilyBuilder::new(name, help, MetricType::HISTOGRAM)
    }

    pub(super) fn with(mut self, labels: &[(&str, &str)], value: f64) -> FamilyBuilder {
        self.add(labels, value);
        self
    }

    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let metric = self.metric(labels);
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            self.push(metric, |m| m.set_counter(counter));
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            self.push(metric, |m| m.set_gauge(gauge));
        }
    }

    /// `buckets` are counts per bucket, not cumulative, one for each of `bounds` and a last one without bound.
    pub(super) fn add_histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        buckets: &[u64],
        sum: f64,
    ) {
        let mut histogram = Histogram::default();
        let mut seen = 0;
        let mut cumulative = Vec::new();
        for (bound, count) in bounds.iter().zip(buckets) {
            seen += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(seen);
            cumulative.push(bucket);
        }
        histogram.set_bucket(cumulative);
        histogram.set_sample_count(buckets.iter().sum());
        histogram.set_sample_sum(sum);
        let metric = self.metric(labels);
        self.push(metric, |m| m.set_histogram(histogram));
    }

    fn metric(&self, labels: &[(&str, &str)]) -> Metric {
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::default();
        metric.set_label(pairs.collect());
        metric
    }

    fn push(&mut self, mut metric: Metric, set: impl FnOnce(&mut Metric)) {
        set(&mut metric);
        self.family.mut_metric().push(metric);
    }

    pub(super) fn done(self) -> MetricFamily {
        self.family
    }
}
