//! Operators: computed here on plain numbers, for the checker's known values and the running program alike; on tensors, each is
//! an operation.

use tl_syntax::ast::BinaryOperator;

/// The name of the operation that an operator is on tensors.
pub(crate) fn operation_name(operator: BinaryOperator) -> &'static str {
    match operator {
        BinaryOperator::Add => "add",
        BinaryOperator::Subtract => "sub",
        BinaryOperator::Multiply => "mul",
        BinaryOperator::Divide => "div",
        BinaryOperator::Remainder => "rem",
        BinaryOperator::Power => "pow",
        BinaryOperator::MatMul => "matmul",
        BinaryOperator::Equal => "equal",
        BinaryOperator::NotEqual => "not_equal",
        BinaryOperator::Less => "less",
        BinaryOperator::LessEqual => "less_equal",
        BinaryOperator::Greater => "greater",
        BinaryOperator::GreaterEqual => "greater_equal",
        // On tensors it is no operation, and the checker says so.
        BinaryOperator::In => "in",
        BinaryOperator::And => "logical_and",
        BinaryOperator::Or => "logical_or",
    }
}

/// Why arithmetic on ints has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArithmeticError {
    Overflow,
    DivisionByZero,
    NegativeExponent,
    NotArithmetic,
}

/// `a operator b` on ints: `/` truncates, `%` has the sign of `a`.
pub(crate) fn int(operator: BinaryOperator, a: i64, b: i64) -> Result<i64, ArithmeticError> {
    let result = match operator {
        BinaryOperator::Add => a.checked_add(b),
        BinaryOperator::Subtract => a.checked_sub(b),
        BinaryOperator::Multiply => a.checked_mul(b),
        BinaryOperator::Divide | BinaryOperator::Remainder if b == 0 => return Err(ArithmeticError::DivisionByZero),
        BinaryOperator::Divide => a.checked_div(b),
        // The remainder by -1 is 0 even if the quotient overflows.
        BinaryOperator::Remainder => Some(a.checked_rem(b).unwrap_or(0)),
        BinaryOperator::Power if b < 0 => return Err(ArithmeticError::NegativeExponent),
        BinaryOperator::Power => power(a, b),
        _ => return Err(ArithmeticError::NotArithmetic),
    };
    result.ok_or(ArithmeticError::Overflow)
}

fn power(a: i64, b: i64) -> Option<i64> {
    match (a, u32::try_from(b)) {
        (0 | 1, _) => Some(if b == 0 { 1 } else { a }),
        (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
        (_, Ok(b)) => a.checked_pow(b),
        (_, Err(_)) => None,
    }
}

/// `a operator b` on floats; `None` if the operator is not arithmetic.
pub(crate) fn float(operator: BinaryOperator, a: f64, b: f64) -> Option<f64> {
    Some(match operator {
        BinaryOperator::Add => a + b,
        BinaryOperator::Subtract => a - b,
        BinaryOperator::Multiply => a * b,
        BinaryOperator::Divide => a / b,
        BinaryOperator::Remainder => a % b,
        BinaryOperator::Power => a.powf(b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use BinaryOperator::*;

    #[test]
    fn whole_numbers() {
        for (operator, a, b, expected) in [
            (Add, 2, 3, Ok(5)),
            (Add, i64::MAX, 1, Err(ArithmeticError::Overflow)),
            (Subtract, i64::MIN, 1, Err(ArithmeticError::Overflow)),
            (Multiply, 1 << 62, 2, Err(ArithmeticError::Overflow)),
            (Divide, -7, 2, Ok(-3)),
            (Divide, 7, 0, Err(ArithmeticError::DivisionByZero)),
            (Divide, i64::MIN, -1, Err(ArithmeticError::Overflow)),
            (Remainder, -7, 2, Ok(-1)),
            (Remainder, i64::MIN, -1, Ok(0)),
            (Remainder, 1, 0, Err(ArithmeticError::DivisionByZero)),
            (Power, 2, 10, Ok(1024)),
            (Power, 2, 63, Err(ArithmeticError::Overflow)),
            (Power, 2, -1, Err(ArithmeticError::NegativeExponent)),
            (Power, -1, i64::MAX, Ok(-1)),
            (Power, 0, 0, Ok(1)),
            (Power, 3, 1 << 40, Err(ArithmeticError::Overflow)),
            (Less, 1, 2, Err(ArithmeticError::NotArithmetic)),
        ] {
            assert_eq!(int(operator, a, b), expected, "{a} {} {b}", operator.symbol());
        }
    }
}
