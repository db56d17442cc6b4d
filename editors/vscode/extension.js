// Starts `tl lsp` and connects the editor with it.

const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");

let client;

async function start() {
  const command = vscode.workspace.getConfiguration("tl").get("path", "tl");
  const server = { command, args: ["lsp"], transport: TransportKind.stdio };
  client = new LanguageClient("tl", "TL", server, { documentSelector: [{ language: "tl" }] });
  try {
    await client.start();
  } catch (error) {
    vscode.window.showErrorMessage(`\`${command} lsp\` does not start: ${error.message}. The setting tl.path names the program.`);
  }
}

async function stop() {
  const running = client;
  client = undefined;
  if (running?.isRunning()) {
    await running.stop();
  }
}

async function activate(context) {
  const restart = async () => {
    await stop();
    await start();
  };
  context.subscriptions.push(
    vscode.commands.registerCommand("tl.restart", restart),
    vscode.workspace.onDidChangeConfiguration((change) => change.affectsConfiguration("tl.path") && restart()),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
