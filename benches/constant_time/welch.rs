//! Welch's t: how surely two classes of times have different means, in standard errors of their difference.
//! Beyond 4.5 it is no chance (Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", 2017).

/// At how many bounds times are cropped: what else the machine does makes some of them long, and hides what
/// there is to see.
const CROPS: usize = 100;

/// What a class must keep of its times for a crop to count.
const FEWEST: u128 = 10_000;

/// Number, sum and sum of squares of times: exact, because they are whole numbers.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u128,
    sum: u128,
    squares: u128,
}

impl Sums {
    fn add(&mut self, time: u64) {
        let time = u128::from(time);
        self.count += 1;
        self.sum += time;
        self.squares += time * time;
    }

    fn mean(&self) -> f64 {
        as_float(self.sum) / as_float(self.count)
    }

    /// The square of the mean's standard error: the variance by the count.
    fn error(&self) -> f64 {
        let spread = self.count * self.squares - self.sum * self.sum;
        as_float(spread) / as_float(self.count * self.count * self.count.saturating_sub(1))
    }
}

/// Two classes, of all times or of those up to a bound.
#[derive(Clone, Copy, Default)]
struct Classes([Sums; 2]);

impl Classes {
    fn t(&self) -> f64 {
        let [one, other] = self.0;
        let error = (one.error() + other.error()).sqrt();
        // Times that are all the same are the same.
        if error > 0.0 { (other.mean() - one.mean()) / error } else { 0.0 }
    }

    fn fewest(&self) -> u128 {
        self.0[0].count.min(self.0[1].count)
    }
}

/// The test of one target.
pub struct Welch {
    all: Classes,
    /// Each with the longest time that it takes.
    cropped: Vec<(u64, Classes)>,
}

impl Welch {
    /// Takes the bounds from some times that are then not looked at any more.
    pub fn cropping_by(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        // 93 % are kept, 87 %, 81 %, …: closest to one another where most times are.
        let mut kept = times.len();
        let mut bounds = Vec::new();
        while bounds.len() < CROPS {
            kept = kept * 933 / 1_000;
            bounds.push(times[kept]);
        }
        bounds.dedup();
        Self {
            all: Classes::default(),
            cropped: bounds.into_iter().map(|bound| (bound, Classes::default())).collect(),
        }
    }

    pub fn add(&mut self, class: bool, time: u64) {
        let class = usize::from(class);
        self.all.0[class].add(time);
        for (bound, classes) in &mut self.cropped {
            if time >= *bound {
                // The bounds that follow are lower.
                break;
            }
            classes.0[class].add(time);
        }
    }

    /// The |t| of all times; the greatest of that and of all crops; and how far the means of that crop are
    /// apart, the second class's less the first's.
    pub fn result(&self) -> (f64, f64, f64) {
        let enough = |classes: &&Classes| classes.fewest() >= FEWEST;
        let cropped = self.cropped.iter().map(|(_, classes)| classes).filter(enough);
        let greatest = cropped.fold(&self.all, |greatest, classes| {
            if classes.t().abs() > greatest.t().abs() { classes } else { greatest }
        });
        let [one, other] = greatest.0;
        (self.all.t().abs(), greatest.t().abs(), other.mean() - one.mean())
    }
}

/// That it computes what it should, on numbers that can be checked by hand.
pub fn check() {
    let mut classes = Classes::default();
    for (one, other) in [(1, 2), (2, 4), (3, 6), (4, 8)] {
        classes.0[0].add(one);
        classes.0[1].add(other);
    }
    // Means 2.5 and 5, variances 5/3 and 20/3, four of each: (5 - 2.5) / √(25/12).
    assert!((classes.t() - 3.0_f64.sqrt()).abs() < 1e-12, "{}", classes.t());

    // Two classes one apart, under noise that hides it from the mean: two of ten times are long.
    let noisy = |n: u64| if n % 10 < 2 { 5_000 + n * 7_919 % 100_000 } else { 100 + n % 7 };
    let mut welch = Welch::cropping_by((0..1_000).map(noisy).collect());
    for n in 0..100_000 {
        welch.add(n % 2 == 1, noisy(n) + n % 2);
    }
    let (all, greatest, apart) = welch.result();
    assert!(all < 1.0 && greatest > 50.0, "{all} {greatest}");
    // A crop takes a little of the difference away.
    assert!(apart > 0.2 && apart < 1.2, "{apart}");
}

#[allow(clippy::cast_precision_loss, reason = "statistics")]
fn as_float(number: u128) -> f64 {
    number as f64
}
