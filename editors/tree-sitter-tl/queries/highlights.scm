; Names by what they stand for; later patterns win.

(identifier) @variable
(parameter name: (identifier) @variable.parameter)
(named_argument name: (identifier) @variable.parameter)
(field name: (identifier) @property)
(field_value name: (identifier) @property)
(struct (parameter name: (identifier) @property))

(function name: (identifier) @function)
(call function: (identifier) @function.call)
(call owner: (identifier) @type)
(method_call method: (identifier) @function.method.call)

(entity name: (identifier) @type)
(elements (identifier) @constant)
(relation name: (identifier) @function)
(relation entity: (identifier) @type)
(atom relation: (identifier) @function.call)

(struct name: (identifier) @type)
(impl name: (identifier) @type)
(struct_literal name: (identifier) @type)
(type_name name: (identifier) @type)
(tensor_type dtype: (identifier) @type.builtin)
((type_name name: (identifier) @type.builtin)
  (#match? @type.builtin "^(int|float|bool|string|float16|float32|int32)$"))
(any_size) @constant.builtin

(string) @string
(format_string) @string
(escape) @string.escape
(interpolation ["{" "}"] @punctuation.special)
(format) @string.special
(integer) @number
(float) @number.float
(boolean) @boolean
((identifier) @constant.builtin (#eq? @constant.builtin "none"))
(line_comment) @comment
(block_comment) @comment

["fn"] @keyword.function
["struct" "impl"] @keyword.type
["import" "as"] @keyword.import
["let" "mut" "tensor" "learnable" "frozen" "main" "test" "entity" "relation" "fact" "rule" "query"] @keyword
["for" "while" "loop" (break) (continue)] @keyword.repeat
["if" "else"] @keyword.conditional
["with" "buffer_trace"] @keyword
["return"] @keyword.return
(arrow) @operator
["and" "or" "not" "in"] @keyword.operator
["+" "-" "*" "/" "%" "@" "**" "==" "!=" "<" "<=" ">" ">=" "=" ":=" "+=" "-=" "*=" "/=" "%=" "**=" "@=" "->" ".." "?"] @operator
["(" ")" "[" "]" "{" "}"] @punctuation.bracket
["," ";" ":" "." "::"] @punctuation.delimiter
