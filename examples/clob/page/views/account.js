// One's account: the key, balances, and what goes in and out.

import { deposit, wallet } from "../wallet.js";
import { busy, complain, find, number, tell, write } from "./dom.js";

const BALANCES = ["base", "quote"].flatMap((token) => ["free", "locked"].map((part) => [token, part]));

export class AccountView {
  /** `actions`: `makeKey()`, `useKey(text)`, `faucet()`, `withdraw(token, amount)`, and `trader()`, who has the key. */
  constructor(units, market, actions) {
    Object.assign(this, { units, market, actions });
    find("make-key").addEventListener("click", () => {
      actions.makeKey();
      find(market.faucet ? "faucet" : "copy").focus();
    });
    find("copy").addEventListener("click", () => this.#copy());
    find("reveal").addEventListener("click", () => this.#reveal(find("secret").hidden));
    find("faucet").hidden = !market.faucet;
    find("faucet").addEventListener("click", () => this.#do(find("faucet"), "On its way …", () => actions.faucet()));
    this.#form("withdraw", (token, amount) => actions.withdraw(token, amount));
    this.#form("deposit", async (token, amount) => {
      const user = actions.trader().user;
      await deposit(market, user, token, amount, (text) => tell(find("account-outcome"), text));
      return [`Deposited ${units.named(token, amount)}: it counts in a few blocks`, "good"];
    });
    const has = Boolean(wallet());
    find("deposit-form").hidden = !has;
    find("no-wallet").hidden = has;
    find("use-key").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = find("other-key");
      try {
        actions.useKey(input.value.trim());
        input.value = "";
        complain(input, "");
        find("key").open = false;
        find("key").querySelector("summary").focus();
      } catch (error) {
        complain(input, error.message);
        input.focus();
      }
    });
  }

  /** There is a key now, or another one. */
  show(user) {
    find("no-key").hidden = true;
    find("with-key").hidden = false;
    write(find("address"), user);
    this.#reveal(false);
    tell(find("account-outcome"), "");
  }

  render(own) {
    for (const [token, part] of BALANCES) {
      write(find(`${token}-${part}`), own?.known ? this.units.show(token, own[token][part]) : "–");
    }
  }

  #form(name, act) {
    const form = find(`${name}-form`);
    const { token, amount } = form.elements;
    for (const option of token.options) option.textContent = this.units[option.value].symbol;
    form.addEventListener("input", () => complain(amount, ""));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const units = number(this.units, token.value, amount);
      if (units === null) return amount.focus();
      this.#do(form.querySelector("button"), "Sent …", async () => {
        const said = await act(token.value, units);
        form.reset();
        return said;
      });
    });
  }

  #do(button, first, work) {
    return busy(button, async () => {
      const outcome = find("account-outcome");
      tell(outcome, first);
      try {
        tell(outcome, ...(await work()));
      } catch (error) {
        tell(outcome, error.message, "bad");
      }
    });
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.actions.trader().user);
      tell(find("account-outcome"), "Copied the address");
    } catch {
      getSelection().selectAllChildren(find("address"));
      tell(find("account-outcome"), "The address is selected: copy it now");
    }
  }

  #reveal(shown) {
    find("secret").hidden = !shown;
    write(find("secret"), shown ? this.actions.trader().account.reveal() : "");
    write(find("reveal"), shown ? "Hide the key" : "Show the key");
    find("reveal").setAttribute("aria-expanded", String(shown));
  }
}
