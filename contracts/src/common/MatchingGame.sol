// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What the matching game does with a result, in either revision: it keeps who is whose partner.
abstract contract MatchingGame {
    /// Two users who asked for the same number; `first` had waited.
    struct Match {
        uint64 number;
        address first;
        address second;
    }

    event Matched(uint64 indexed number, address indexed first, address indexed second);

    mapping(uint64 number => mapping(address user => address)) private partners;

    /// The user's latest partner for this number; 0 where there was none.
    function getPartner(uint64 number, address user) external view returns (address) {
        return partners[number][user];
    }

    /// `result` is `abi.encode(Match[])`.
    function keepMatches(bytes memory result) internal {
        Match[] memory matches = abi.decode(result, (Match[]));
        for (uint256 i = 0; i < matches.length; i++) {
            Match memory pair = matches[i];
            partners[pair.number][pair.first] = pair.second;
            partners[pair.number][pair.second] = pair.first;
            emit Matched(pair.number, pair.first, pair.second);
        }
    }
}
