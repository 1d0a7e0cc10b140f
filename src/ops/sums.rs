//! Sums of structs, field by field.

/// How values of a struct are added up: every field on its own.
macro_rules! added {
    ($name:ident { $($field:ident),+ }) => {
        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)+
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                let mut sum = Self::default();
                all.for_each(|one| sum += one);
                sum
            }
        }
    };
}
pub(crate) use added;
