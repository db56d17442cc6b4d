//! What wrong calls answer: the operation, the operands, the rule that they break, and the values that break it.

use tl_device::{DType, Device, TensorBuffer};
use tl_tensor::ops::{self, Arg};
use tl_tensor::quant::FORMATS;
use tl_tensor::{CreateTensors, Tensor};

use crate::nd::Nd;
use crate::values::{Input, refusal, stored, tensor, weight};

fn check(device: &Device, name: &str, args: &[Arg<'_>], expected: &str) {
    let error = refusal(device, ops::by_name(name).unwrap(), args);
    assert_eq!(error.to_string(), expected);
}

fn zeros(device: &Device, dtype: DType, dims: &[usize]) -> Input {
    Input::contiguous(device, dtype, Nd::from_fn(dims, |_| stored(dtype, 0.0)))
}

fn half(device: &Device, dims: &[usize]) -> Input {
    zeros(device, DType::F16, dims)
}

#[test]
fn sizes_that_do_not_fit() {
    let device = crate::device();
    let [a, b, v] = [half(&device, &[8, 512]), half(&device, &[256, 128]), half(&device, &[512])];
    let check = |name: &str, args: &[Arg], expected: &str| check(&device, name, args, expected);
    let two = |name, expected| check(name, &[a.arg(), b.arg()], expected);
    two("matmul", "matmul: the inner sizes differ: [8, 512] @ [256, 128] (512 and 256)");
    two("linear", "linear: the inner sizes differ: [8, 512], [256, 128] (512 and 128)");
    two("add", "add: the shapes do not broadcast: [8, 512], [256, 128] (8 and 256)");
    two("swiglu", "swiglu: gate and up differ: [8, 512], [256, 128] (8 and 256)");
    two("rms_norm", "rms_norm: w must have 1 dimension, [n]: [8, 512], [256, 128] (it has 2)");
    check(
        "layer_norm",
        &[b.arg(), v.arg()],
        "layer_norm: the parameter has another size than the last dimension of x: [256, 128], [512] (512 and 128)",
    );
    check(
        "reshape",
        &[a.arg(), Arg::Ints(&[3, -1])],
        "reshape: the number of elements must stay the same: [8, 512] (4096 and 3)",
    );
    check(
        "reshape",
        &[a.arg(), Arg::Ints(&[7, 7])],
        "reshape: the number of elements must stay the same: [8, 512] (4096 and 49)",
    );
    check("reshape", &[a.arg(), Arg::Ints(&[-1, -1])], "reshape: -1 must be given once, not 2: [8, 512]");
    check(
        "reshape",
        &[v.arg(), Arg::Ints(&[1 << 62, 4, -1])],
        "reshape: the number of elements must stay the same: [512] (512 and 9223372036854775807)",
    );
    check(
        "broadcast_to",
        &[v.arg(), Arg::Ints(&[2, 3])],
        "broadcast_to: the shapes do not broadcast: [512] (512 and 3)",
    );
    check(
        "broadcast_to",
        &[v.arg(), Arg::Ints(&[-2, 512])],
        "broadcast_to: a dimension must be 0 or more, not -2: [512]",
    );
    check(
        "squeeze",
        &[a.arg(), Arg::Int(0)],
        "squeeze: only a dimension of size 1 can be left out: [8, 512] (8 and 1)",
    );
    check(
        "einsum",
        &[Arg::Text("ij,jk->ik"), a.arg(), b.arg()],
        "einsum: `j` stands for two sizes, in operand 1 and in operand 2: [8, 512], [256, 128] (512 and 256)",
    );
    for (spec, problem) in [
        ("i->i", "\"i->i\": operand 1 has 2 dimensions, and its part has 1"),
        ("...ijk->i", "\"...ijk->i\": operand 1 has 2 dimensions, and its part has at least 3"),
        ("ii->i", "`i` stands for two sizes in operand 1"),
        ("ij->ii", "\"ij->ii\": `i` stands twice in the result"),
        ("ij->k", "\"ij->k\": `k` of the result stands in no operand"),
        ("...->", "\"...->\": the result has no `...`, whose dimensions cannot be summed over"),
        ("i......->i", "\"i......->i\": `...` stands twice in a part"),
        ("i..", "\"i..\": `.` is neither a letter, `,`, `->` nor `...`"),
        ("i0->i", "\"i0->i\": `0` is neither a letter, `,`, `->` nor `...`"),
        ("iä", "\"iä\": `ä` is neither a letter, `,`, `->` nor `...`"),
        ("ij,jk->ik", "\"ij,jk->ik\": there are 2 operands in it, and 1 in the call"),
    ] {
        let values = if spec == "ii->i" { " (8 and 512)" } else { "" };
        let expected = format!("einsum: {problem}: [8, 512]{values}");
        check("einsum", &[Arg::Text(spec), a.arg()], &expected);
    }
    let tensors = [a.tensor.clone(), b.tensor.clone()];
    check("concat", &[Arg::Tensors(&tensors)], "concat: the other sizes differ: [8, 512], [256, 128] (512 and 128)");
    check("concat", &[Arg::Tensors(&[])], "concat: the number of tensors must be 1 or more, not 0");
    let (q, k) = (half(&device, &[1, 6, 8]), half(&device, &[1, 4, 8]));
    check(
        "attention",
        &[q.arg(), k.arg(), k.arg()],
        "attention: the heads of q are no multiple of the heads of k: [1, 6, 8], [1, 4, 8], [1, 4, 8] (6 and 4)",
    );
    check(
        "attention",
        &[a.arg(), k.arg(), k.arg()],
        "attention: q must have 3 dimensions, [n, heads, d]: [8, 512], [1, 4, 8], [1, 4, 8] (it has 2)",
    );
    let large = half(&device, &[1, 1, 1026]);
    check(
        "attention",
        &[large.arg(), large.arg(), large.arg()],
        "attention: the size of a head must be 1024 or less, not 1026: [1, 1, 1026], [1, 1, 1026], [1, 1, 1026]",
    );
    check(
        "attention",
        &[k.arg(), k.arg(), k.arg(), Arg::None, Arg::None, Arg::None, Arg::None, half(&device, &[3]).arg()],
        "attention: there must be a sink for each head of q: [1, 4, 8], [1, 4, 8], [1, 4, 8], [3] (3 and 4)",
    );
    let (x, w) = (half(&device, &[2, 8]), half(&device, &[3, 5, 8]));
    let of_experts = |dims: &[usize]| zeros(&device, DType::I32, dims);
    let experts = of_experts(&[2, 4]);
    check(
        "linear_experts",
        &[x.arg(), w.arg(), of_experts(&[3, 4]).arg()],
        "linear_experts: x and experts have different numbers of tokens: [2, 8], [3, 5, 8], [3, 4] (2 and 3)",
    );
    check(
        "linear_experts",
        &[half(&device, &[2, 3, 8]).arg(), w.arg(), experts.arg()],
        "linear_experts: x has not a row for each expert of a token: [2, 3, 8], [3, 5, 8], [2, 4] (3 and 4)",
    );
    check(
        "linear_experts",
        &[half(&device, &[2, 7]).arg(), w.arg(), experts.arg()],
        "linear_experts: the inner sizes differ: [2, 7], [3, 5, 8], [2, 4] (7 and 8)",
    );
    check(
        "linear_experts",
        &[x.arg(), x.arg(), experts.arg()],
        "linear_experts: w must have 3 dimensions, [E, out, in]: [2, 8], [2, 8], [2, 4] (it has 2)",
    );
    check(
        "linear_experts",
        &[x.arg(), w.arg(), experts.arg(), half(&device, &[3, 6]).arg()],
        "linear_experts: the bias has another size than the rows of w: [2, 8], [3, 5, 8], [2, 4], [3, 6] (5 and 6)",
    );
}

#[test]
fn places_that_are_not_there() {
    let device = crate::device();
    let x = half(&device, &[3, 4]);
    let empty = half(&device, &[0, 4]);
    let check = |name, args: &[Arg], expected| check(&device, name, args, expected);
    check("sum", &[x.arg(), Arg::Int(2)], "sum: there is no dimension 2: [3, 4] (0 to 1, or -2 to -1 from the end)");
    check(
        "softmax",
        &[half(&device, &[]).arg()],
        "softmax: there is no dimension -1: the tensor is a single number: []",
    );
    check("select", &[x.arg(), Arg::Int(0), Arg::Int(3)], "select: index 3 is out of range for size 3: [3, 4]");
    check("select", &[x.arg(), Arg::Int(0), Arg::Int(-4)], "select: index -4 is out of range for size 3: [3, 4]");
    check(
        "slice",
        &[x.arg(), Arg::Int(1), Arg::Int(2), Arg::Int(5)],
        "slice: index 5 is out of range for size 4: [3, 4]",
    );
    check(
        "slice",
        &[x.arg(), Arg::Int(1), Arg::Int(3), Arg::Int(1)],
        "slice: end must be no smaller than start, not 1: [3, 4]",
    );
    check("slice_last", &[empty.arg(), Arg::Int(0)], "slice_last: index -1 is out of range for size 0: [0, 4]");
    check("argmax", &[empty.arg()], "argmax: the number of elements must be 1 or more, not 0: [0, 4]");
    check("permute", &[x.arg(), Arg::Ints(&[0, 0])], "permute: dims must be every dimension once, not 0: [3, 4]");
    let ids = Input::contiguous(&device, DType::I32, Nd::new(&[2], vec![1.0, 3.0]));
    check("embedding", &[x.arg(), ids.arg()], "embedding: index 3 is out of range for size 3: [3, 4], [2]");
    check(
        "index_select",
        &[x.arg(), Arg::Int(0), ids.arg()],
        "index_select: index 3 is out of range for size 3: [3, 4], [2]",
    );
    let experts = Input::contiguous(&device, DType::I32, Nd::new(&[1, 2], vec![1.0, -1.0]));
    check(
        "linear_experts",
        &[half(&device, &[1, 4]).arg(), half(&device, &[2, 3, 4]).arg(), experts.arg()],
        "linear_experts: index -1 is out of range for size 2: [1, 4], [2, 3, 4], [1, 2]",
    );
    let ids = Input::contiguous(&device, DType::I32, Nd::new(&[1, 1], vec![-5.0]));
    check("gather", &[x.arg(), Arg::Int(1), ids.arg()], "gather: index -5 is out of range for size 4: [3, 4], [1, 1]");
    check(
        "scatter",
        &[x.arg(), Arg::Int(1), ids.arg(), half(&device, &[1, 1]).arg()],
        "scatter: index -5 is out of range for size 4: [3, 4], [1, 1], [1, 1]",
    );
}

#[test]
fn types_that_do_not_fit() {
    let device = crate::device();
    let (x, y, i) = (half(&device, &[4]), zeros(&device, DType::F32, &[4]), zeros(&device, DType::I32, &[4]));
    let check = |name, args: &[Arg], expected| check(&device, name, args, expected);
    check(
        "add",
        &[x.arg(), y.arg()],
        "add: float16 and float32 do not mix; convert one of them, `x as float16` or `x as float32`: float16[4], float32[4]",
    );
    check("exp", &[i.arg()], "exp: x must be float16 or float32 (cast it first, `x as float32`), not int32: int32[4]");
    check(
        "add",
        &[i.arg(), Arg::Number(0.5)],
        "add: a tensor that meets a fraction must be a float type, not int32: int32[4]",
    );
    check(
        "where",
        &[x.arg(), x.arg(), x.arg()],
        "where: c must be bool, not float16: float16[4], float16[4], float16[4]",
    );
    check(
        "embedding",
        &[half(&device, &[4, 4]).arg(), x.arg()],
        "embedding: ids must be int32, not float16: float16[4, 4], float16[4]",
    );
    check(
        "rms_norm",
        &[x.arg(), i.arg()],
        "rms_norm: w must be float16, float32 or a weight format, not int32: float16[4], int32[4]",
    );
    check(
        "linear",
        &[x.arg(), zeros(&device, DType::Bool, &[1, 4]).arg()],
        "linear: w must be float16, float32 or a weight format, not bool: float16[4], bool[1, 4]",
    );
    let q8_0 = FORMATS.iter().find(|format| format.dtype.name() == "q8_0").unwrap();
    let (w, _) = weight(&device, q8_0, &[64, 64], (-1.0, 1.0));
    check(
        "add",
        &[Arg::from(&w), Arg::Number(1.0)],
        "add: an operand must be an activation (cast the weight first, `w as float16`), not q8_0: q8_0[64, 64]",
    );
    check(
        "slice",
        &[Arg::from(&w), Arg::Int(1), Arg::Int(0), Arg::Int(32)],
        "slice: x must be an activation (cast the weight first), not q8_0: q8_0[64, 64]",
    );
    check(
        "cast",
        &[Arg::from(&w), Arg::DType(DType::I32)],
        "cast: x must be an activation (cast the weight to a float type first, `w as float32`), not q8_0: q8_0[64, 64]",
    );
    // Nothing converts to a weight format.
    check(
        "add",
        &[Arg::from(&w), y.arg()],
        "add: q8_0 and float32 do not mix; convert the weight, `w as float32`: q8_0[64, 64], float32[4]",
    );
    check(
        "minimum",
        &[i.arg(), Arg::from(&w)],
        "minimum: int32 and q8_0 do not mix; convert both, `x as float32`: int32[4], q8_0[64, 64]",
    );
    check(
        "matmul",
        &[i.arg(), y.arg()],
        "matmul: a must be float16 or float32 (cast it first with `as float32`), not int32: int32[4] @ float32[4]",
    );
    check(
        "cast",
        &[x.arg(), Arg::DType(q8_0.dtype)],
        "cast: dtype must be float16, float32, int32 or bool, not q8_0: float16[4]",
    );
    // The blocks of a transposed weight run along its first dimension, which cannot be cut then either.
    let transposed = w.transpose(0, 1).unwrap();
    for error in [transposed.slice(0, 1, 3).unwrap_err(), transposed.select(0, 1).unwrap_err()] {
        assert_eq!(error.to_string(), "contiguous: x must be a weight that is not transposed, not q8_0: q8_0[64, 64]");
    }
    let error = tensor(&device, DType::F16, &Nd::scalar(1.0)).into_typed::<f32>().unwrap_err();
    assert_eq!(error.to_string(), "this tensor is float16, not float32; convert it first with `cast`");
}

#[test]
fn values_out_of_their_range() {
    let device = crate::device();
    let x = half(&device, &[2, 2, 6]);
    let check = |name, args: &[Arg], expected: &str| check(&device, name, args, expected);
    check("arange", &[Arg::Int(0), Arg::Int(5), Arg::Int(0)], "arange: step must be other than 0, not 0");
    check("zeros", &[Arg::Ints(&[2, -3])], "zeros: a dimension must be 0 or more, not -3");
    check("clamp", &[x.arg(), Arg::Int(3), Arg::Int(1)], "clamp: min must be no larger than max, not 3: [2, 2, 6]");
    check("clamp", &[x.arg(), Arg::Number(f64::NAN)], "clamp: min must be no larger than max, not NaN: [2, 2, 6]");
    check("rope", &[x.arg(), Arg::Int(-1)], "rope: pos must be 0 or more, not -1: [2, 2, 6]");
    check("rope", &[x.arg(), Arg::Int(0), Arg::Int(0)], "rope: base must be more than 0, not 0: [2, 2, 6]");
    check(
        "rope",
        &[x.arg(), Arg::Int(0), Arg::None, Arg::Int(5)],
        "rope: dims must be even and no more than the head's size, not 5: [2, 2, 6]",
    );
    let rope = |scale, factors, magnitude, expected: &str| {
        check("rope", &[x.arg(), Arg::None, Arg::None, Arg::None, Arg::None, scale, factors, magnitude], expected);
    };
    for k in [-1, 7] {
        let expected = "topk: k must be 0 or more and no more than the dimension's size, not";
        check("topk", &[x.arg(), Arg::Int(k)], &format!("{expected} {k}: [2, 2, 6]"));
    }
    let attention = |causal, window, softcap, expected: &str| {
        check("attention", &[x.arg(), x.arg(), x.arg(), causal, Arg::None, window, softcap], expected);
    };
    let three = "[2, 2, 6], [2, 2, 6], [2, 2, 6]";
    let expected = format!("attention: window must be 0 or more, not -1: {three}");
    attention(Arg::None, Arg::Int(-1), Arg::None, &expected);
    let expected = format!("attention: window must be 0 where attention is not causal, not 3: {three}");
    attention(Arg::Bool(false), Arg::Int(3), Arg::None, &expected);
    let expected = format!("attention: softcap must be 0 or more, not -1: {three}");
    attention(Arg::None, Arg::None, Arg::Int(-1), &expected);
    let yarn = |args: [Arg; 4], expected| check("yarn_factors", &args, expected);
    let (dims, base, factor, context) = (Arg::Int(8), Arg::Number(1e4), Arg::Int(4), Arg::Int(64));
    yarn([Arg::Int(7), base, factor, context], "yarn_factors: dims must be even, not 7");
    yarn([dims, Arg::Int(1), factor, context], "yarn_factors: base must be more than 1, not 1");
    yarn([dims, base, Arg::Int(0), context], "yarn_factors: factor must be more than 0, not 0");
    yarn([dims, base, factor, Arg::Number(f64::NAN)], "yarn_factors: context must be more than 0, not NaN");
    let six = half(&device, &[6]);
    rope(Arg::Int(0), Arg::None, Arg::None, "rope: scale must be more than 0, not 0: [2, 2, 6]");
    rope(Arg::None, Arg::None, Arg::Number(f64::NAN), "rope: magnitude must be a finite number, not NaN: [2, 2, 6]");
    rope(Arg::None, six.arg(), Arg::None, "rope: there must be a factor for each pair: [2, 2, 6], [6] (6 and 3)");
    rope(
        Arg::None,
        x.arg(),
        Arg::None,
        "rope: factors must have 1 dimension, [dims/2]: [2, 2, 6], [2, 2, 6] (it has 3)",
    );
    check(
        "rms_norm",
        &[x.arg(), half(&device, &[6]).arg(), Arg::Number(-1.0)],
        "rms_norm: eps must be 0 or more, not -1: [2, 2, 6], [6]",
    );
    check(
        "zeros",
        &[Arg::Ints(&[1 << 62, 1 << 62])],
        "zeros: float16[4611686018427387904, 4611686018427387904] is too large: its size in bytes does not fit the address space",
    );
    check(
        "broadcast_to",
        &[half(&device, &[]).arg(), Arg::Ints(&[1 << 40, 1 << 40])],
        "broadcast_to: float16[1099511627776, 1099511627776] is too large: its size in bytes does not fit the address space",
    );
    check(
        "arange",
        &[Arg::Int(i64::MIN), Arg::Int(i64::MAX)],
        "arange: int32[9223372036854775807] is too large: its size in bytes does not fit the address space",
    );
    let q4_0 = FORMATS.iter().find(|format| format.dtype.name() == "q4_0").unwrap();
    let error = device.zeros(tl_device::Layout::new(q4_0.dtype, [32])).unwrap_err();
    assert_eq!(error.to_string(), "zeros: dtype must be float16, float32, int32 or bool, not q4_0");
    let error = Tensor::<f32>::from_vec(&device, vec![1.0; 5], vec![2, 3]).unwrap_err();
    assert_eq!(error.to_string(), "5 values do not fill the shape [2, 3], which takes 6");
}

#[test]
fn arguments_of_another_kind() {
    let device = crate::device();
    let x = half(&device, &[4]);
    let check = |name, args: &[Arg], expected| check(&device, name, args, expected);
    check("exp", &[], "exp: x must be a tensor");
    check("exp", &[Arg::Int(3)], "exp: x must be a tensor");
    check("exp", &[x.arg(), x.arg()], "exp: there are 2 arguments for 1 parameters: [4], [4]");
    check("add", &[Arg::Int(1), Arg::Number(2.0)], "add: one of the operands must be a tensor");
    check("reshape", &[x.arg(), Arg::Int(4)], "reshape: shape must be a list of integers: [4]");
    check("sum", &[x.arg(), Arg::Number(0.0)], "sum: dim must be an integer: [4]");
    check("einsum", &[x.arg(), x.arg()], "einsum: spec must be a text: [4], [4]");
    let expected = "einsum: \"i->\": there is 1 operand in it, and 2 in the call: [4], [4]";
    check("einsum", &[Arg::Text("i->"), x.arg(), x.arg()], expected);
    check("cast", &[x.arg(), Arg::Text("float32")], "cast: dtype must be a data type: [4]");
}

#[test]
fn devices_and_memory() {
    let (device, other) = (crate::device(), crate::device());
    let (x, y) = (half(&device, &[4]), half(&other, &[4]));
    check(&device, "add", &[x.arg(), y.arg()], "add: the operands lie on different devices: [4], [4]");
    let tensors = [x.tensor.clone(), y.tensor.clone()];
    check(&device, "concat", &[Arg::Tensors(&tensors)], "concat: the operands lie on different devices: [4], [4]");
    let error = refusal(&device, ops::by_name("zeros").unwrap(), &[Arg::Ints(&[1 << 50])]).to_string();
    assert!(error.starts_with("zeros: out of memory: float16[1125899906842624] needs 2048.0 TiB"), "{error}");
    // A wrong call takes no memory.
    let buffer = TensorBuffer::new(&device);
    buffer.reserve(vec![4], 1).unwrap();
    device.set_tensor_buffer(buffer.clone());
    refusal(&device, ops::by_name("add").unwrap(), &[x.arg(), half(&device, &[3]).arg()]);
    assert_eq!((buffer.stats().taken_count, buffer.stats().in_use_count), (0, 0));
}
