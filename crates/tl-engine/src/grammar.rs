//! Grammars over the tokens of a model, and its grammar compiler, made at the first call.

use std::sync::Arc;

use tl_grammar::{Grammar, GrammarCompiler, GrammarSource};
use tl_model::{LanguageModel, Result};

use crate::model::Model;

impl Model {
    /// A grammar over this model's tokens, at its beginning.
    ///
    /// The first call reads the whole vocabulary, about a second for a large one; the model keeps the result.
    ///
    /// ```
    /// use tl_engine::{GenerateOptions, Generator, GrammarSource, Model};
    ///
    /// let model = Model::load("../../models/demo-q4_0.gguf", &tl_device::Device::cpu())?;
    /// let tokenizer = model.tokenizer()?;
    /// let schema = r#"{"type": "object", "properties": {"safe": {"type": "boolean"}}, "required": ["safe"]}"#;
    /// let grammar = model.grammar(&GrammarSource::JsonSchema(schema.to_owned()))?;
    ///
    /// let prompt = tokenizer.encode("Is it safe?");
    /// let options = GenerateOptions::default().with_context(64);
    /// let mut generator = Generator::new(&model, &prompt, &options)?.with_constraint(Box::new(grammar));
    /// let tokens = generator.by_ref().collect::<tl_engine::Result<Vec<u32>>>()?;
    /// let answer: serde_json::Value = serde_json::from_str(&tokenizer.decode(&tokens)?).unwrap();
    /// assert!(answer["safe"].is_boolean());
    /// assert_eq!(generator.finish(), Some(tl_engine::Finish::ConstraintComplete));
    /// # Ok::<(), tl_engine::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// A model without a tokenizer, a vocabulary that is too large, a source that [`GrammarCompiler::compile`] rejects.
    pub fn grammar(&self, source: &GrammarSource) -> Result<Grammar> {
        Ok(self.grammar_compiler()?.compile(source)?)
    }

    /// The grammar compiler of this model.
    ///
    /// # Errors
    /// A model without a tokenizer, a vocabulary that is too large.
    pub fn grammar_compiler(&self) -> Result<Arc<GrammarCompiler>> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler.clone());
        }
        let compiler = Arc::new(GrammarCompiler::new(&*self.tokenizer()?, |token| self.is_end(token))?);
        Ok(self.compiler.get_or_init(|| compiler).clone())
    }
}
