// Deposits from a browser's wallet (EIP-1193): what has to be on chain is sent by whoever has the tokens there.

const word = (hex) => hex.toLowerCase().replace(/^0x/, "").padStart(64, "0");
const amountWord = (amount) => amount.toString(16).padStart(64, "0");

/** `approve(address spender, uint256 amount)` */
export const approveCall = (spender, amount) => `0x095ea7b3${word(spender)}${amountWord(amount)}`;
/** `deposit(address user, bool base, uint128 amount)` */
export const depositCall = (user, base, amount) => `0x6dd8045a${word(user)}${word(base ? "1" : "0")}${amountWord(amount)}`;

/** The wallet, if there is one. */
export const wallet = () => globalThis.ethereum;

/** Deposits for a user. `told` hears what is being waited for. */
export async function deposit(market, user, token, amount, told) {
  const { request } = wallet();
  const ask = (method, ...params) => request.call(wallet(), { method, params });
  told("Your wallet asks you");
  const [from] = await ask("eth_requestAccounts");
  const chain = `0x${market.chain_id.toString(16)}`;
  if (BigInt(await ask("eth_chainId")) !== BigInt(chain)) await ask("wallet_switchEthereumChain", { chainId: chain });
  const done = async (to, data) => {
    const hash = await ask("eth_sendTransaction", { from, to, data });
    for (;;) {
      const receipt = await ask("eth_getTransactionReceipt", hash);
      if (receipt) {
        if (BigInt(receipt.status) === 1n) return;
        throw new Error("The chain refused it");
      }
      await new Promise((next) => setTimeout(next, 500));
    }
  };
  await done(market[token].token, approveCall(market.contract, amount));
  told("Approved; now the deposit itself");
  await done(market.contract, depositCall(user, token === "base", amount));
}
