-- Under which offer a service shares pools in a window, where it is not the one that it used under.
select distinct window_start, level, account_id, service_id, offer_id, held_offer_id
from offer_piece
where offer_id <> held_offer_id
