//! The kinds of diagnostics that have a code: one table, which messages, `tl explain` and the tests read.

/// What `tl explain` says of a code.
#[derive(Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The code, `E0301`.
    pub name: &'static str,
    /// What it means.
    pub text: &'static str,
    /// A program with it.
    pub wrong: &'static str,
    /// The program as it should be.
    pub right: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $text:literal, wrong: $wrong:literal, right: $right:literal;)*) => {
        /// The kind of a diagnostic.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$code),*];

            /// What it means, with examples.
            pub fn explanation(self) -> &'static Explanation {
                match self {
                    $(Code::$code => &Explanation { name: $name, text: $text, wrong: $wrong, right: $right },)*
                }
            }
        }
    };
}

codes! {
    /// Two sizes of an operation's operands differ.
    SizesDiffer = "E0301",
        "Two sizes that an operation needs to be equal are not: the inner sizes of a product, the sizes of two operands that \
         are added, the other dimensions of tensors that are joined. Sizes of 1 repeat. A name of a signature, such as `n`, \
         stands for any size, so it is equal only to itself.",
        wrong: "let y = ones([8, 512]) @ ones([256, 128])\nprint(y)",
        right: "let y = ones([8, 512]) @ ones([512, 128])\nprint(y)";
    /// An operand has the wrong number of dimensions.
    WrongRank = "E0302",
        "An operation takes a tensor with another number of dimensions. `unsqueeze` adds one, `squeeze` and an index take one \
         away, `reshape` makes any.",
        wrong: "print(rope(ones([4, 8])))",
        right: "print(rope(ones([4, 1, 8])))";
    /// A tensor does not have this dimension.
    NoSuchDimension = "E0303",
        "The number of a dimension that the tensor does not have. The first one is 0; negative numbers count from the end.",
        wrong: "print(softmax(ones([2, 3]), 2))",
        right: "print(softmax(ones([2, 3]), 1))";
    /// An index or a part lies outside a tensor.
    OutOfRange = "E0304",
        "An index, or the bounds of a part, lie outside a dimension. Positions begin with 0; negative ones count from the end.",
        wrong: "let x = ones([8, 2])\nprint(x[8])",
        right: "let x = ones([8, 2])\nprint(x[7], x[-1])";
    /// An index outside a list.
    NoSuchElement = "E0305",
        "An index, or the bounds of a part, lie outside a list. Positions begin with 0; negative ones count from the end.",
        wrong: "let sizes = [1, 2, 3]\nprint(sizes[3])",
        right: "let sizes = [1, 2, 3]\nprint(sizes[2], sizes[-1])";
    /// A reshape would change the number of elements.
    ElementsDiffer = "E0306",
        "The elements of a tensor stay when its dimensions change, so the products of the old and the new sizes must be equal. \
         One size may be -1: it becomes what is left.",
        wrong: "print(ones([8, 3]).reshape([4, 5]))",
        right: "print(ones([8, 3]).reshape([4, -1]))";
    /// An argument of an operation is a number that it does not take.
    WrongNumber = "E0307",
        "An argument is a number outside those that the operation takes.",
        wrong: "print(zeros([2, -3]))",
        right: "print(zeros([2, 3]))";
    /// A value does not fit the sizes of a written type.
    WrittenSizes = "E0308",
        "A value has other sizes, or another number of dimensions, than the type that is written for it. In one signature a \
         name is the same size everywhere.",
        wrong: "let x: float16[2, 3] = ones([3, 2])\nprint(x)",
        right: "let x: float16[2, 3] = ones([2, 3])\nprint(x)";
    /// The lists in a list that becomes a tensor have different lengths.
    RaggedList = "E0309",
        "A list of lists becomes a tensor only if all its lists have the same length.",
        wrong: "print([[1, 2], [3]] as float16)",
        right: "print([[1, 2], [3, 0]] as float16)";
    /// A specification of `einsum` that does not fit its operands.
    EinsumSpec = "E0310",
        "The specification of an `einsum` has a letter for each dimension of each operand, and behind `->` those of the result.",
        wrong: "print(einsum(\"ij->ji\", ones([2, 3, 4])))",
        right: "print(einsum(\"ijk->kji\", ones([2, 3, 4])))";
    /// A model lacks a part that the program reads.
    MissingPart = "E0311",
        "The program reads a part that the model does not have. `tl info MODEL` lists what it has; `path?` is the tensor or \
         `none`, and `if let t = path? { … }` runs only where it is there.",
        wrong: "",
        right: "";
    /// A variable that nothing reads.
    UnusedVariable = "W0101",
        "A variable has a value that nothing reads: it is left over, or another one was meant. A name that begins with `_` is \
         not expected to be read.",
        wrong: "main {\n    let total = 3\n    print(2)\n}",
        right: "main {\n    let total = 3\n    print(total)\n}";
    /// A value that nothing uses.
    UnusedResult = "W0102",
        "A statement computes a value and does nothing with it. Operations change no tensor: they give a new one.",
        wrong: "main {\n    let x = ones([2])\n    softmax(x)\n    print(x)\n}",
        right: "main {\n    let x = ones([2])\n    let y = softmax(x)\n    print(y)\n}";
    /// A statement that is never reached.
    Unreachable = "W0103",
        "Behind `return`, `break` or `continue` the rest of a block never runs.",
        wrong: "fn f(x: int) -> int {\n    return x\n    print(x)\n}\nprint(f(1))",
        right: "fn f(x: int) -> int {\n    print(x)\n    return x\n}\nprint(f(1))";
    /// A variable of a rule or a query that may be meant to be an element.
    NearElement = "W0104",
        "A variable of a rule or a query stands there once, and its name is almost that of an element. A name that no entity has \
         is a variable, so that a misspelled element stands for any.",
        wrong: "entity Person = {anna, bob}\nrelation Parent(Person, Person)\nfact Parent(anna, bob)\n\
                print(query Parent(ana, x))",
        right: "entity Person = {anna, bob}\nrelation Parent(Person, Person)\nfact Parent(anna, bob)\n\
                print(query Parent(anna, x))";
}

impl Code {
    /// The code, `E0301`.
    pub fn name(self) -> &'static str {
        self.explanation().name
    }

    /// The code of this name, in capitals or not.
    pub fn named(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is about the shapes of tensors.
    pub fn is_shape(self) -> bool {
        self.name().starts_with("E03")
    }
}
