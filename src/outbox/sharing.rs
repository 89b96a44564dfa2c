//! How many lanes each of several instances has: as many as any other, or one more. None moves that need not.

/// Who has how many of so many lanes.
pub(super) struct Sharing {
    pub(super) lanes: usize,
    /// Of each instance, by their names.
    pub(super) had: Vec<usize>,
    /// Which one this is.
    pub(super) own: usize,
}

impl Sharing {
    /// What every instance should have at least.
    fn least(&self) -> usize {
        self.lanes / self.had.len()
    }

    fn most(&self) -> usize {
        self.lanes.div_ceil(self.had.len())
    }

    /// How many lanes these lack.
    fn lacking<'a>(&self, instances: impl Iterator<Item = &'a usize>) -> usize {
        instances.map(|had| self.least().saturating_sub(*had)).sum()
    }

    /// How many lanes this instance gives back, as others lack them, or as it has more than any should. Those that have
    /// most give first.
    pub(super) fn gives(&self) -> usize {
        let free = self.lanes.saturating_sub(self.had.iter().sum());
        let mut left = self.had.clone();
        for _ in free..self.lacking(self.had.iter()) {
            // The first by name, of several.
            let Some(most) = left.iter_mut().rev().max() else { break };
            if *most <= self.least() {
                break;
            }
            *most -= 1;
        }
        self.had[self.own] - left[self.own].min(self.most())
    }

    /// Up to how many lanes this instance takes what is free: no more than the least if others lack it.
    pub(super) fn takes_up_to(&self) -> usize {
        let others = self.had[..self.own].iter().chain(&self.had[self.own + 1..]);
        if self.lacking(others) > 0 { self.least() } else { self.most() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(lanes: usize, had: &[usize], own: usize) -> Sharing {
        Sharing { lanes, had: had.to_vec(), own }
    }

    fn gives(lanes: usize, had: &[usize]) -> Vec<usize> {
        (0..had.len()).map(|own| sharing(lanes, had, own).gives()).collect()
    }

    #[test]
    fn nothing_moves_that_need_not() {
        for had in [&[1, 0][..], &[0, 1], &[2, 1, 2], &[3, 3, 2], &[1, 1, 0], &[2]] {
            assert_eq!(gives(had.iter().sum(), had), vec![0; had.len()], "{had:?}");
        }
        // What is free will do.
        assert_eq!(gives(4, &[2, 0]), [0, 0]);
        assert_eq!(gives(9, &[3, 3, 3, 0]), [1, 1, 0, 0]);
        assert_eq!(gives(8, &[8, 0]), [4, 0]);
        assert_eq!(gives(5, &[5, 0, 0]), [3, 0, 0]);
    }

    /// However the lanes are had at first, and whoever is the first to take: in the end they are shared out evenly, and
    /// then nothing moves any more.
    #[test]
    fn all_lanes_are_shared_out_evenly() {
        let starts = (1..7_usize).flat_map(|alive| (0..14_usize).map(move |lanes| (alive, lanes)));
        for (alive, lanes, first) in
            starts.flat_map(|(alive, lanes)| (0..alive).map(move |first| (alive, lanes, first)))
        {
            for pile in [0, lanes / 2, lanes] {
                let mut had = vec![0; alive];
                had[0] = pile;
                had[alive - 1] += lanes - pile;
                for _round in 0..3 {
                    let given = gives(lanes, &had);
                    had.iter_mut().zip(given).for_each(|(had, gives)| *had -= gives);
                    for own in (0..alive).map(|at| (first + at) % alive) {
                        let most = sharing(lanes, &had, own).takes_up_to();
                        let free = lanes - had.iter().sum::<usize>();
                        had[own] += free.min(most.saturating_sub(had[own]));
                    }
                }
                let (most, least) = (had.iter().max().unwrap(), had.iter().min().unwrap());
                assert_eq!((had.iter().sum::<usize>(), most - least <= 1), (lanes, true), "{had:?}");
                assert_eq!(gives(lanes, &had), vec![0; alive], "{had:?}");
            }
        }
    }
}
